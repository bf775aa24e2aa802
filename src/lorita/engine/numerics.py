"""Which number format, how many threads, which route for products: chosen from the machine, with
the reasons in words.

bf16 products are two to five times as fast as float32 on processors with the instructions for them,
and slower on those without: nothing is assumed that can be asked or measured.
"""

from __future__ import annotations

import functools
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from lorita.engine.allocator import keep_few_products

BF16_FLAGS = ("amx_bf16", "avx512_bf16")
"""Processor flags (Linux's names) that come with fast bf16 products, the fastest first."""
AMD = ("AuthenticAMD", "HygonGenuine")
"""MKL takes its slower paths on these; oneDNN was measured 1.1 to 2.5 times as fast."""
WORTH_IT = 1.2
"""A measured speed-up below this is noise, and the wider format is kept."""


@dataclass(frozen=True)
class Numerics:
    """What was chosen. ``reasons`` are sentences for people."""

    dtype: torch.dtype
    threads: int
    onednn_float32: bool
    reasons: list[str] = field(default_factory=list)

    def apply(self) -> None:
        """Set torch's threads and the engine's route for this process."""
        from lorita.engine.kernels.ops import use_onednn_float32

        torch.set_num_threads(self.threads)
        use_onednn_float32(self.onednn_float32)


def choose_numerics(dtype: str = "auto", *, device: str = "cpu") -> Numerics:
    """``dtype`` is ``auto`` or a name of torch's; ``device`` is ``cpu`` or ``cuda``."""
    keep_few_products()  # before a measurement makes the first one
    if device != "cpu":
        return _on_gpu(dtype)
    threads, why_threads = choose_threads(
        usable_cores(), torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    )
    if dtype == "auto":
        chosen, why = choose_dtype(processor_flags(), lambda: measured_ratio("bf16"))
    else:
        chosen, why = getattr(torch, dtype), f"{dtype}, as asked for"
    reasons = [f"Numbers: {why}", f"Threads: {threads} ({why_threads})"]
    onednn = False
    if chosen == torch.float32:
        onednn, why = choose_float32_route(processor_vendor())
        reasons.append(f"Products: {why}")
    return Numerics(chosen, threads, onednn, reasons)


def _on_gpu(dtype: str) -> Numerics:
    if dtype != "auto":
        chosen, why = getattr(torch, dtype), f"{dtype}, as asked for"
    elif torch.cuda.is_bf16_supported():
        chosen, why = torch.bfloat16, "bfloat16, which this GPU computes"
    else:
        chosen, why = torch.float32, "float32: this GPU has no bfloat16"
    name = torch.cuda.get_device_name()
    return Numerics(chosen, torch.get_num_threads(), False, [f"Device: {name}", f"Numbers: {why}"])


def choose_dtype(flags: frozenset[str], measure: Callable[[], float]) -> tuple[torch.dtype, str]:
    """bf16 where the processor has instructions for it, or where it was measured to be faster."""
    for flag in BF16_FLAGS:
        if flag in flags:
            return torch.bfloat16, f"bfloat16, for which this processor has instructions ({flag})"
    ratio = measure()
    if ratio >= WORTH_IT:
        return torch.bfloat16, f"bfloat16, measured {ratio:.1f} times as fast as float32"
    return torch.float32, (
        f"float32: this processor has no instructions for bfloat16 products "
        f"(measured {ratio:.1f} times the speed of float32)"
    )


def choose_float32_route(vendor: str) -> tuple[bool, str]:
    """Whether float32 products go through oneDNN.

    By the maker of the processor and not by a measurement: the two libraries round differently, and
    a run must give the same bytes when it is repeated on a busy machine.
    """
    if vendor in AMD and torch.backends.mkldnn.is_available():
        return True, "float32 through oneDNN, which is faster than MKL on AMD's processors"
    return False, "float32 through the library that torch takes by default"


def choose_threads(usable: int, default: int, asked: str | None) -> tuple[int, str]:
    """torch's own choice, but no more than the cores that this process may use."""
    if asked is not None:
        return default, f"OMP_NUM_THREADS={asked}"
    if usable < default:
        return usable, f"the process may use {usable} of the cores"
    return default, f"{usable} cores can be used"


def processor_flags() -> frozenset[str]:
    """Linux's flags of the first processor; empty elsewhere."""
    return frozenset(_cpuinfo("flags", "Features").split())


def processor_vendor() -> str:
    """Linux's name for the maker of the first processor; empty elsewhere."""
    return _cpuinfo("vendor_id")


def _cpuinfo(*names: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return ""


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores that this process may use: its affinity, and a container's share of time."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, min(cores, round(quota))) if quota else cores


def _quota(cgroup: Path) -> float | None:
    """Cores' worth of time that a container allows; None without a limit."""
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    return int(limit) / int(period) if limit.isdigit() else None


def int8_reason(dtype: torch.dtype) -> str:
    """In words: what products in 8-bit whole numbers gain over those of ``dtype`` here."""
    plain = measured_ratio("bf16") if dtype == torch.bfloat16 else 1.0
    ratio = measured_ratio("int8") / plain
    name = str(dtype).removeprefix("torch.")
    verdict = "" if ratio >= WORTH_IT else ": this processor gains nothing from --base-precision"
    return f"8-bit products: measured {ratio:.1f} times as fast as {name}{verdict}"


@functools.cache
def measured_ratio(what: str) -> float:
    """How many times as fast as a plain float32 product: ``bf16``, ``int8``, ``onednn`` float32.

    Some 50 ms once per process; the two sides alternate, so that a busy machine slows both.
    """
    x, w = torch.randn(256, 512), torch.randn(1024, 512)
    narrow = (x.bfloat16(), w.bfloat16())
    whole = (x.to(torch.int8), w.to(torch.int8).t())

    def plain() -> None:
        torch.nn.functional.linear(x, w)

    def other() -> None:
        if what == "bf16":
            torch.nn.functional.linear(*narrow)
        elif what == "int8":
            torch._int_mm(*whole)
        else:
            torch.ops.mkldnn._linear_pointwise(x, w, None, "none", [], "")

    if what == "onednn" and not torch.backends.mkldnn.is_available():
        return 0.0
    times: dict[Callable[[], None], list[float]] = {plain: [], other: []}
    for attempt in range(9):
        for side, taken in times.items():
            start = time.perf_counter()
            side()
            if attempt >= 2:
                taken.append(time.perf_counter() - start)
    return statistics.median(times[plain]) / statistics.median(times[other])
