"""What ``speedup`` did to a model, for people."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

_ROWS = {
    "packed": "rows are laid end to end, without padding",
    "padded": "rows are padded, because this model's attention is not supported",
    "alone": "rows are computed one by one, because padding changes this model's numbers",
}


@dataclass(frozen=True)
class SpeedupReport:
    """What was replaced and what was not; ``print`` it."""

    kernels: str
    """Which kernels are compiled, or why none are."""
    keeps_memory: bool
    """The process keeps freed memory for the next step."""
    rows: Literal["packed", "padded", "alone"] = "padded"
    """How rows are computed together; see ``patch.Patch``."""
    int8: int = 0
    """Layers whose products are computed in 8-bit integers."""
    replaced: Counter[str] = field(default_factory=Counter)
    """Replaced modules by kind."""
    left: Counter[str] = field(default_factory=Counter)
    """Modules that were not replaced, by reason."""
    calls: Counter[str] = field(default_factory=Counter)
    """Training calls since then: how many the ``fast`` step computed, and how many the model's
    ``own`` forward. Counts on while training runs."""

    @property
    def packs_rows(self) -> bool:
        """Whether rows are computed end to end, without padding."""
        return self.rows == "packed"

    def lines(self) -> list[str]:
        """The report, one fact per line."""
        lines = [f"Fast step: {_ROWS[self.rows]}; kernels: {self.kernels}"]
        if self.replaced:
            done = ", ".join(f"{count} × {what}" for what, count in self.replaced.items())
            lines.append(f"Replaced: {done}")
        if self.int8:
            lines.append(
                f"Products of {self.int8} frozen layers are computed in 8-bit integers; the output "
                "head and the adapters are not"
            )
        if not self.keeps_memory:
            lines.append(
                "Memory is returned to the system between steps: there is no glibc, or the address "
                "space is limited"
            )
        for reason, count in self.left.items():
            lines.append(f"Not replaced: {count} × {reason}")
        if self.calls:
            fast, own = self.calls["fast"], self.calls["own"]
            lines.append(
                f"Training calls: {fast} by the fast step, {own} by the model's own forward"
            )
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())
