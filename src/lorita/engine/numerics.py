"""Choose number format, threads and matrix library for this machine, and give the reasons.

bf16 products are two to five times as fast as float32 on processors with instructions for them, and
slower on those without: nothing is assumed that can be looked up or measured.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from lorita.engine.allocator import keep_few_products
from lorita.engine.measured import Ratio, measured_ratio
from lorita.engine.processor import (
    has_bf16_products,
    limit,
    processor_vendor,
    usable_instructions,
)

BF16_FLAGS = ("amx_bf16", "avx512_bf16")
"""Processor flags (Linux's names) that mean fast bf16 products, fastest first."""
AMD = ("AuthenticAMD", "HygonGenuine")
"""Makers on whose processors MKL uses slower code; oneDNN was measured 1.1 to 2.5 times as fast."""
WORTH_IT = 1.2
"""A smaller measured speed-up may be noise: the wider format is kept."""


@dataclass(frozen=True)
class Numerics:
    """What was chosen, and why."""

    dtype: torch.dtype
    threads: int
    onednn_float32: bool
    """float32 products go through oneDNN."""
    reasons: list[str] = field(default_factory=list)
    """For people, one per choice."""

    def apply(self) -> None:
        """Set the threads and the route of float32 products for this process."""
        from lorita.engine.kernels.products import use_onednn_float32

        torch.set_num_threads(self.threads)
        use_onednn_float32(self.onednn_float32)


def choose_numerics(dtype: str = "auto", *, device: str = "cpu") -> Numerics:
    """Choose for this machine. ``dtype`` is ``auto`` or one of torch's names; ``device`` is ``cpu``
    or ``cuda``. A measurement, if needed, takes some 50 ms."""
    keep_few_products()  # before a measurement computes the first one
    if device != "cpu":
        return _on_gpu(dtype)
    threads, why_threads = choose_threads(
        usable_cores(), torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    )
    if dtype == "auto":
        chosen, why = choose_dtype(usable_instructions(), lambda: measured_ratio("bf16"))
    else:
        chosen, why = getattr(torch, dtype), f"{dtype}, as requested"
    reasons = [f"Number format: {why}", f"Threads: {threads} ({why_threads})"]
    if limited := limit():
        reasons.append(f"Instructions: {limited} excludes some that this processor has")
    onednn = False
    if chosen == torch.float32 or not has_bf16_products():
        onednn, why = choose_float32_route(processor_vendor())
        reasons.append(f"Products: {why}")
    return Numerics(chosen, threads, onednn, reasons)


def _on_gpu(dtype: str) -> Numerics:
    if dtype != "auto":
        chosen, why = getattr(torch, dtype), f"{dtype}, as requested"
    elif torch.cuda.is_bf16_supported():
        chosen, why = torch.bfloat16, "bfloat16, which this GPU supports"
    else:
        chosen, why = torch.float32, "float32, because this GPU does not support bfloat16"
    reasons = [f"Device: {torch.cuda.get_device_name()}", f"Number format: {why}"]
    return Numerics(chosen, torch.get_num_threads(), False, reasons)


def choose_dtype(flags: frozenset[str], measure: Callable[[], Ratio]) -> tuple[torch.dtype, str]:
    """bf16 if the processor has instructions for it, or if it is measured to be faster.

    ``measure`` returns how many times as fast as float32 products bf16 ones are. Where that cannot
    be told, the wider format is kept.
    """
    for flag in BF16_FLAGS:
        if flag in flags:
            return torch.bfloat16, f"bfloat16, which this processor has instructions for ({flag})"
    ratio = measure()
    worth_it = ratio.at_least(WORTH_IT)
    if worth_it:
        return torch.bfloat16, f"bfloat16, measured {ratio} times as fast as float32"
    busy = "" if worth_it is False else "; the machine is too busy to tell"
    return torch.float32, (
        "float32, because this processor has no instructions for bfloat16 products "
        f"(measured {ratio} times as fast as float32{busy})"
    )


def choose_float32_route(vendor: str) -> tuple[bool, str]:
    """Whether float32 products go through oneDNN.

    Depends on the maker of the processor, not on a measurement: the two libraries round
    differently, and a run must produce the same bytes when it is repeated on a busy machine.
    """
    if vendor in AMD and torch.backends.mkldnn.is_available():
        return True, "float32 through oneDNN, which is faster than MKL on AMD processors"
    return False, "float32 through torch's default library"


def choose_threads(usable: int, default: int, asked: str | None) -> tuple[int, str]:
    """torch's ``default``, but no more than the ``usable`` cores; ``asked`` is OMP_NUM_THREADS."""
    if asked is not None:
        return default, f"OMP_NUM_THREADS={asked}"
    if usable < default:
        return usable, f"this process may use {usable} cores"
    return default, f"{usable} usable cores"


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores that this process may use, by its affinity and its container's quota of time."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, min(cores, round(quota))) if quota else cores


def _quota(cgroup: Path) -> float | None:
    """The container's quota of time, in cores; None without a limit."""
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    return int(limit) / int(period) if limit.isdigit() else None


def int8_suits(asked: str, chosen: torch.dtype, device: str) -> bool:
    """Whether 8-bit products are worth recommending to somebody who has not asked for a format.

    They are where ``auto`` was ``asked`` for and float32 was ``chosen``, because the processor has
    no bfloat16 products, and where only the weights are rounded noticeably (``kernels/int8.py``).
    """
    from lorita.engine.kernels.int8 import activation_bits
    from lorita.engine.kernels.native import kernel

    if asked != "auto" or chosen != torch.float32 or device != "cpu" or activation_bits() != 16:
        return False
    return kernel("int8_forward", torch.empty(0)) is not None


def int8_reason(dtype: torch.dtype) -> str:
    """How fast products in 8-bit integers are here compared with ``dtype``, for people."""
    ratio = measured_ratio("int8", "bf16" if dtype == torch.bfloat16 else "float32")
    name = str(dtype).removeprefix("torch.")
    verdict = {
        True: "",
        False: ", so --base-precision int8 gains little here",
        None: "; the machine is too busy to tell whether --base-precision int8 gains anything",
    }[ratio.at_least(WORTH_IT)]
    return f"8-bit products: measured {ratio} times as fast as {name}{verdict}"
