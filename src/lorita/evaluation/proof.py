"""What a run learned, forgot and memorised: figures, and three sentences that say them.

The words depend on the figures by fixed rules, told in docs/proof.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lorita.evaluation.intervals import Change

A_LITTLE, MUCH = 0.1, 0.4
"""Nats per token by which the loss on general passages rose: perplexity times 1.1 and 1.5."""
OVERFITS = 0.5
"""Share of the gain on training rows that must show on held-out rows as well."""
MIN_GAP = 0.3
"""Nats per token between the two gains below which nothing is called overfitting."""
MANY_ROWS = 0.1
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
        return seen - unseen > MIN_GAP and unseen < OVERFITS * seen

    def sentence(self) -> str:
        change, training = self.held_out, self.training
        if change is None:
            if training is None:
                return "Learned: not measured; there were no rows to measure it with."
            return (
                f"Learned: no rows were held out, so it is not known; on {self.training_rows} of "
                f"its training rows the loss went from {_from_to(training)} nats per token."
            )
        verdict = {-1: "Learned", 0: "Learned nothing that is sure", 1: "Got worse"}[change.sign]
        text = (
            f"{verdict}: on {_count(self.rows, 'held-out row')} the loss "
            f"{_moved(change)} {_from_to(change)} nats per token (perplexity "
            f"{_perplexity(change.base)} to {_perplexity(change.tuned)}); the change is "
            f"{_interval(change)}."
        )
        if self.rows < FEW:
            text += " So few rows say little."
        if self.overfits and training is not None:
            text += (
                f" It overfits: on {_count(self.training_rows, 'training row')} the loss went from "
                f"{_from_to(training)}, and most of that does not carry over."
            )
        return text


@dataclass(frozen=True)
class Forgot:
    """Losses on general passages; ``divergence`` is KL(tuned ‖ base), nats per token."""

    passages: int
    change: Change
    divergence: float

    @property
    def verdict(self) -> str:
        rise = self.change.value
        if self.change.sign <= 0:
            return "Forgot nothing that shows"
        return f"Forgot {'a little' if rise < A_LITTLE else 'something' if rise < MUCH else 'much'}"

    def sentence(self) -> str:
        return (
            f"{self.verdict}: on {_count(self.passages, 'general passage')} the loss "
            f"{_moved(self.change)} {_from_to(self.change)} nats per token; the change is "
            f"{_interval(self.change)}; KL divergence from the base {self.divergence:.3f}."
        )


@dataclass(frozen=True)
class Memorised:
    """Counts, of the base and of the tuned model.

    ``rows`` training rows were begun and ``extracted`` of them continued word for word; of
    ``written`` runs of eight tokens in its answers, ``copied`` stand in the training rows.
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
        more = self.extracted - self.extracted_base
        if more <= 0:
            return "Memorised no row that was asked"
        return "Memorised much" if more >= MANY_ROWS * self.rows else "Memorised a little"

    def sentence(self) -> str:
        if not self.rows:
            rows = "No training row is long enough to ask for"
        else:
            rows = (
                f"{self.verdict}: begun, {self.extracted} of {_count(self.rows, 'training row')} "
                f"went on word for word (base {self.extracted_base})"
            )
        return (
            f"{rows}; {_share(self.copied, self.written)} of the 8-token runs that it wrote stand "
            f"in the training rows (base {_share(self.copied_base, self.written_base)})."
        )


@dataclass(frozen=True)
class Proof:
    """All three; ``memorised`` is None where the training rows are not known."""

    learned: Learned
    forgot: Forgot
    memorised: Memorised | None

    def sentences(self) -> list[str]:
        unknown = "Memorised: not measured, since the training rows are not there."
        return [
            self.learned.sentence(),
            self.forgot.sentence(),
            self.memorised.sentence() if self.memorised else unknown,
        ]

    def __str__(self) -> str:
        return "\n".join(self.sentences())


def proof_from(values: Mapping[str, Any]) -> Proof:
    """A proof as ``dataclasses.asdict`` made it and JSON kept it."""
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
    return f"{change.value:+.3f} (95 % interval {change.low:+.3f} to {change.high:+.3f})"


def _perplexity(loss: float) -> str:
    return f"{math.exp(min(loss, 700.0)):,.3g}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "none"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
