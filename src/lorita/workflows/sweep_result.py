"""What a sweep found: its runs, the best of them, and ``sweep.json``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lorita.errors import OutputError
from lorita.storage.files import write_atomic
from lorita.storage.manifest import SWEEP, claim
from lorita.storage.reading import read_as
from lorita.storage.run_folder import SWEEP_FILE


@dataclass(frozen=True)
class Tried:
    """One run: ``held_out`` and ``training`` are losses in nats per token; None where it failed.

    ``scale`` is what its adapter's output is multiplied by.
    """

    name: str
    values: dict[str, Any]
    held_out: float | None
    training: float | None
    seconds: float | None
    failed: str | None = None
    scale: float | None = None


@dataclass(frozen=True)
class _SweepFile:
    """What of ``sweep.json`` is read again."""

    runs: tuple[Tried, ...]


@dataclass(frozen=True)
class SweepResult:
    """What ``lorita.sweep`` returns. ``held_out_base`` is the loss before any training."""

    path: Path
    held_out_base: float | None
    runs: tuple[Tried, ...]

    @property
    def best(self) -> Tried | None:
        """The run with the lowest held-out loss."""
        done = [run for run in self.runs if run.held_out is not None]
        return min(done, key=lambda run: run.held_out or 0.0) if done else None

    def edges(self) -> list[str]:
        """Hints for options whose best value is the smallest or largest tried."""
        best = self.best
        if best is None:
            return []
        lines = []
        for name, value in best.values.items():
            tried = sorted({run.values[name] for run in self.runs if _is_number(run.values[name])})
            if len(tried) > 1 and _is_number(value) and value in (tried[0], tried[-1]):
                which, more = (
                    ("smallest", "smaller") if value == tried[0] else ("largest", "larger")
                )
                found = f"The best {name} is the {which} tried"
                lines.append(
                    f"{found}, but with it the scale of the adapter changed, too: this does not "
                    "show which of them helped."
                    if name == "r" and self._scale_differs(best, name)
                    else f"{found}: a {more} one may be better."
                )
        return lines

    def _scale_differs(self, best: Tried, name: str) -> bool:
        """Whether runs that differ from the best one in this option alone have other scales."""
        others = best.values.keys() - {name}
        alike = [r for r in self.runs if all(r.values[o] == best.values[o] for o in others)]
        return len({f"{run.scale:.6g}" for run in alike if run.scale is not None}) > 1

    def _repr_html_(self) -> str:
        """The runs in a notebook, the best one first."""
        from lorita.workflows.results_html import sweep_html

        return sweep_html(self)

    def as_dict(self) -> dict[str, Any]:
        """The folder, and what ``sweep.json`` holds, as plain values."""
        return {"path": str(self.path), **self._content(), "hints": self.edges()}

    def _content(self) -> dict[str, Any]:
        best = self.best
        values = {"best": best.name if best else None, "held_out_base": self.held_out_base}
        return {**values, "runs": [asdict(run) for run in self.runs]}

    def save(self) -> None:
        """Write ``sweep.json`` into the sweep's folder, complete or not at all."""
        text = json.dumps(self._content(), indent=2)
        claim(self.path, [SWEEP_FILE], kind=SWEEP)
        write_atomic(self.path / SWEEP_FILE, text + "\n")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_sweep(folder: Path) -> list[Tried]:
    """The runs listed in ``sweep.json``; none if there is no such file."""
    path = folder / SWEEP_FILE
    if not path.exists():
        return []
    found = read_as(path, _SweepFile, OutputError, hint="Delete it; the runs are kept.")
    return list(found.runs)
