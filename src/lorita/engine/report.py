"""What ``speedup`` did to a model, in words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class SpeedupReport:
    """``print`` it. ``replaced`` and ``left`` count modules by kind and reason."""

    kernels: str
    keeps_memory: bool
    packs_rows: bool = False
    int8: int = 0
    """Layers whose products run in 8-bit whole numbers."""
    replaced: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)

    def give_up(self, without: tuple[str, ...], reason: str) -> None:
        """Forget a stage whose numbers did not agree, and keep the reason."""
        what = f"fast path without {', '.join(without)}" if without else "whole fast path"
        self.replaced.clear()
        self.left = Counter({k: v for k, v in self.left.items() if "checked on this model" in k})
        self.left[f"{what} (checked on this model: {reason})"] += 1

    def lines(self) -> list[str]:
        """The report as sentences."""
        rows = (
            "rows lie end to end, without padding"
            if self.packs_rows
            else "rows are padded: this model's attention is not covered"
        )
        lines = [f"Fast step: {rows}; kernels: {self.kernels}"]
        if self.replaced:
            done = ", ".join(f"{count} {what}" for what, count in self.replaced.items())
            lines.append(f"Replaced: {done}")
        if self.int8:
            lines.append(
                f"Products of {self.int8} frozen layers in 8-bit whole numbers; the output head "
                "and the adapters stay as they are"
            )
        if not self.keeps_memory:
            lines.append(
                "Memory goes back to the system between steps: no glibc to keep it, or a limit on "
                "the address space"
            )
        for reason, count in self.left.items():
            lines.append(f"Left as it is: {count} × {reason}")
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())
