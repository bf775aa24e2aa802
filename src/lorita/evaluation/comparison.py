"""Before and after: base and tuned model, compared on the same prompts and the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lorita.errors import UserError
from lorita.evaluation.markdown import escaped, one_line, quote
from lorita.evaluation.notebook_html import paragraphs, table
from lorita.evaluation.proof import Proof
from lorita.evaluation.row_losses import HeldOutLoss
from lorita.storage.files import write_atomic
from lorita.storage.names import meant
from lorita.storage.reading import read_as
from lorita.system.counted import counted
from lorita.system.terminal_text import json_text

JSON_FILE = "compare.json"
MARKDOWN_FILE = "compare.md"


@dataclass(frozen=True)
class Answer:
    """A prompt, and the greedy answers of the base (``before``) and the tuned model (``after``)."""

    prompt: str
    before: str
    after: str


@dataclass(frozen=True)
class HeldOut:
    """Mean loss of the base and of the tuned model on the same held-out rows, in nats per token."""

    rows: int
    before: float
    after: float


@dataclass(frozen=True)
class Comparison:
    """What a run changed. ``str()`` is the Markdown of ``compare.md``.

    ``held_out`` is None where no rows were held out, ``proof`` where it was not asked for. Without
    ``measured``, these are answers alone: the rows were not looked at.
    """

    model: str
    answers: tuple[Answer, ...]
    held_out: HeldOut | None
    proof: Proof | None = None
    measured: bool = True

    def loss_line(self) -> str | None:
        """Both losses in a sentence, or that there are none; None if no rows were looked at."""
        if not self.measured:
            return None
        if self.held_out is None:
            return "No rows were held out, so there is no held-out loss."
        held = self.held_out
        rows = counted(held.rows, "held-out row")
        return f"Loss on {rows}: base {held.before:.3f}, tuned {held.after:.3f} (nats per token)"

    def to_markdown(self) -> str:
        """Held-out losses, the sentences of the proof, and both answers to each prompt."""
        lines = ["# Before and after", "", f"Base model: {escaped(self.model)}", ""]
        if self.held_out is not None:
            held = self.held_out
            lines += [
                f"| loss on {held.rows} held-out rows | base | tuned |",
                "| --- | --- | --- |",
                f"| nats per token | {held.before:.4f} | {held.after:.4f} |",
                "",
            ]
        if self.proof is not None:
            for sentence in self.proof.sentences():
                lines += [sentence, ""]
        for answer in self.answers:
            lines += [f"## {one_line(answer.prompt)}", ""]
            lines += ["**Base:**", "", quote(answer.before), ""]
            lines += ["**Tuned:**", "", quote(answer.after), ""]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.to_markdown()

    def __repr__(self) -> str:
        return self.to_markdown()

    def _repr_html_(self) -> str:
        """The same in a notebook: the figures, and the answers side by side."""
        figures = self.proof.sentences() if self.proof is not None else [self.loss_line() or ""]
        answers = [
            (a.prompt, a.before or "(nothing)", a.after or "(nothing)") for a in self.answers
        ]
        return table(("prompt", f"base ({self.model})", "tuned"), answers) + paragraphs(figures)

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, ready for JSON."""
        values = asdict(self)
        del values["measured"]
        if self.proof is not None:
            values["proof"] = self.proof.as_dict()
        return values

    def save(self, run: Path) -> None:
        """Write ``compare.json`` and ``compare.md`` into the run folder."""
        write_atomic(run / JSON_FILE, json_text(self.as_dict(), indent=2) + "\n")
        write_atomic(run / MARKDOWN_FILE, self.to_markdown())


def compared(
    model: str, prompts: Sequence[str], before: Sequence[str], after: Sequence[str]
) -> Comparison:
    """A comparison of answers alone, without losses and proof."""
    answers = tuple(Answer(*triple) for triple in zip(prompts, before, after, strict=True))
    return Comparison(model, answers, None, measured=False)


def read_comparison(run: Path) -> Comparison:
    """The comparison saved in a run folder; ``UserError`` if there is none or it is damaged."""
    path = run.expanduser() / JSON_FILE
    if not path.parent.is_dir():
        raise UserError(f"{run}: no such run folder", hint=meant(str(run)))
    if not path.exists():
        raise UserError(f"{run}: no {JSON_FILE} in this folder")
    return read_as(path, Comparison, UserError)


def held_out_figures(before: HeldOutLoss | None, after: HeldOutLoss | None) -> HeldOut | None:
    """Both mean losses; None where no rows were held out."""
    if before is None or after is None:
        return None
    return HeldOut(len(before.counts), before.mean, after.mean)
