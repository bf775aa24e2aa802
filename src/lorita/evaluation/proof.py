"""What a run learned, forgot and memorised: figures, and three sentences that state them.

Which words a sentence uses follows from the figures by fixed rules, which docs/proof.md explains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lorita.evaluation.intervals import Change
from lorita.evaluation.notebook_html import paragraphs
from lorita.system.counted import counted

SLIGHT, SOME = 0.1, 0.4
"""Rises of the loss on general passages, in nats per token, up to which forgetting is called slight
or some; they multiply the perplexity by 1.1 and 1.5."""
CARRIES_OVER = 0.5
"""A run overfits when less than this share of its gain on training rows shows on held-out rows."""
MIN_GAP = 0.3
"""Difference between the two gains, in nats per token, below which a run does not overfit."""
HEAVILY = 0.1
"""Share of the tested training rows from which on memorisation is called heavy."""
FEW = 8
"""Held-out rows below which the interval is not to be trusted."""


@dataclass(frozen=True)
class Learned:
    """Losses in nats per token; ``held_out`` is None where no rows were held out."""

    rows: int
    held_out: Change | None
    training_rows: int
    training: Change | None

    @property
    def overfits(self) -> bool:
        """Whether less than half of the gain on training rows shows on held-out rows."""
        if self.held_out is None or self.training is None:
            return False
        seen, unseen = -self.training.value, -self.held_out.value
        return seen - unseen > MIN_GAP and unseen < CARRIES_OVER * seen

    def sentence(self) -> str:
        """Whether the held-out loss fell, by how much, and whether the run overfits."""
        change, training = self.held_out, self.training
        if change is None:
            if training is None:
                return "Learning not measured: there were no rows to measure it on."
            return (
                f"Learning not measured: no rows were held out. On {self._trained()} the loss went "
                f"from {_from_to(training)} nats per token."
            )
        verdict = {-1: "Learned", 0: "No measurable learning", 1: "Got worse"}[change.sign]
        text = (
            f"{verdict}: on {counted(self.rows, 'held-out row')} the loss "
            f"{_moved(change)} {_from_to(change)} nats per token (perplexity "
            f"{_perplexity(change.base)} to {_perplexity(change.tuned)}); {_interval(change)}."
        )
        if self.rows < FEW:
            text += " So few rows are weak evidence."
        if self.overfits and training is not None:
            text += (
                f" Overfitting: on {self._trained()} the loss went from {_from_to(training)}; most "
                "of that gain does not carry over to the held-out rows."
            )
        return text

    def _trained(self) -> str:
        return counted(self.training_rows, "training row")


@dataclass(frozen=True)
class Forgot:
    """Losses on general passages; ``divergence`` is KL(tuned ‖ base), nats per token."""

    passages: int
    change: Change
    divergence: float

    @property
    def verdict(self) -> str:
        """Whether the model forgot, and how much, in two or three words."""
        rise = self.change.value
        if self.change.sign <= 0:
            return "No measurable forgetting"
        degree = "Slight" if rise < SLIGHT else "Some" if rise < SOME else "Substantial"
        return f"{degree} forgetting"

    def sentence(self) -> str:
        """How the loss on general passages and the predictions there changed."""
        return (
            f"{self.verdict}: on {counted(self.passages, 'general passage')} the loss "
            f"{_moved(self.change)} {_from_to(self.change)} nats per token; "
            f"{_interval(self.change)}; KL divergence from the base {self.divergence:.3f}."
        )


@dataclass(frozen=True)
class Memorised:
    """Counts for the base and for the tuned model.

    Of ``rows`` training rows whose first tokens were given, ``extracted`` were completed verbatim.
    Of ``written`` distinct sequences of eight tokens in the model's answers, ``copied`` occur in
    the training rows.
    """

    rows: int
    extracted_base: int
    extracted: int
    written_base: int
    copied_base: int
    written: int
    copied: int

    @property
    def verdict(self) -> str:
        """Whether rows were memorised, and how many, in one to three words."""
        more = self.extracted - self.extracted_base
        if more <= 0:
            return "No memorisation found"
        return "Memorised heavily" if more >= HEAVILY * self.rows else "Memorised"

    def sentence(self) -> str:
        """How many training rows the model completes verbatim, and how much it copies."""
        if not self.rows:
            rows = "Memorisation of rows not tested: every training row is too short"
        else:
            rows = (
                f"{self.verdict}: given {'its' if self.rows == 1 else 'their'} first tokens, the "
                f"model completed {self.extracted} of {counted(self.rows, 'training row')} "
                f"verbatim (base {self.extracted_base})"
            )
        return (
            f"{rows}; {_share(self.copied, self.written)} of the 8-token sequences "
            f"{'it' if self.rows else 'the model'} wrote occur in the training rows "
            f"(base {_share(self.copied_base, self.written_base)})."
        )


@dataclass(frozen=True)
class Proof:
    """All three; ``memorised`` is None where the training rows are not available."""

    learned: Learned
    forgot: Forgot
    memorised: Memorised | None

    def sentences(self) -> list[str]:
        """The three sentences, in this order: learned, forgot, memorised."""
        unknown = "Memorisation not tested: the training rows are not available."
        return [
            self.learned.sentence(),
            self.forgot.sentence(),
            self.memorised.sentence() if self.memorised else unknown,
        ]

    def as_dict(self) -> dict[str, Any]:
        """All figures as plain values, ready for JSON, and the sentences."""
        return {**asdict(self), "sentences": self.sentences()}

    def __str__(self) -> str:
        return "\n".join(self.sentences())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """The sentences in a notebook."""
        return paragraphs(self.sentences())


def proof_from(values: Mapping[str, Any]) -> Proof:
    """The proof that ``dataclasses.asdict`` turned into ``values``, after a round trip via JSON."""
    learned, forgot, memorised = values["learned"], values["forgot"], values["memorised"]
    changes = {name: Change(**c) if (c := learned[name]) else None for name in _CHANGES}
    return Proof(
        Learned(**{**learned, **changes}),
        Forgot(**{**forgot, "change": Change(**forgot["change"])}),
        Memorised(**memorised) if memorised else None,
    )


_CHANGES = ("held_out", "training")


def _from_to(change: Change) -> str:
    return f"{change.base:.3f} to {change.tuned:.3f}"


def _moved(change: Change) -> str:
    return {-1: "fell from", 0: "went from", 1: "rose from"}[change.sign]


def _interval(change: Change) -> str:
    return f"change {change.value:+.3f} (95 % interval {change.low:+.3f} to {change.high:+.3f})"


def _perplexity(loss: float) -> str:
    """Three significant figures, trailing zeros included: 15.0, 154, 1.54e+03."""
    value = math.exp(min(loss, 700.0))
    return f"{value:#.3g}".removesuffix(".")


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "none"
