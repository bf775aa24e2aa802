"""A GGUF file before it is called done: llama.cpp has to load it, and is asked for answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.errors import CheckFailed
from lorita.export.verify import (
    TOKENS,
    Reference,
    ask_reference,
    prompts_of_run,
    with_logits,
)
from lorita.inference import llamacpp
from lorita.models.adapter import changes_base
from lorita.models.gguf_files import float_type
from lorita.training.events import OnEvent, PhaseStarted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorita.inference.tuned_model import TunedModel

LIMITS = {"f32": 0.01, "f16": 0.1, "bf16": 0.5}
"""Largest difference allowed in the log-probabilities of the ten likeliest first tokens, by format.
For other formats it is reported only."""


KEPT = 0.9
"""The part of what an adapter learned that a file has to keep, measured by losses."""
LEARNED = 0.1
"""A smaller difference between the losses of base and adapter says nothing, in nats a token."""
LOSS_PROMPTS = 4
"""Answers whose loss is measured: each token is a request to llama.cpp."""
_LIKELY = 200
"""Tokens whose probabilities llama.cpp is asked for; others count as the last of them."""


@dataclass(frozen=True)
class Losses:
    """Mean losses in nats a token of the answers of base and adapter, in three models.

    They are measured in the ``base`` alone (None: not known), in base and adapter (``tuned``), and
    in the ``file``.
    """

    base: float | None
    tuned: float
    file: float

    @property
    def kept(self) -> float | None:
        """The part of what the adapter learned that the file kept; None if that says nothing."""
        if self.base is None or self.base - self.tuned < LEARNED:
            return None
        return (self.base - self.file) / (self.base - self.tuned)

    @property
    def enough(self) -> bool:
        """Whether the file does what the adapter learned."""
        return self.kept is None or self.kept >= KEPT

    @property
    def share(self) -> str:
        """``kept`` as a percentage."""
        return f"{min(max(self.kept or 0.0, 0.0), 1.0):.0%}"

    def lines(self) -> list[str]:
        """The losses in a line of text, and a warning where much was lost."""
        base = "" if self.base is None else f"base {self.base:.2f}, "
        text = f"loss of the answers: {base}base and adapter {self.tuned:.2f}, file {self.file:.2f}"
        if self.kept is None:
            return [f"llama.cpp: {text}"]
        found = [f"llama.cpp: the file keeps {self.share} of what the adapter learned ({text})"]
        if not self.enough:
            found.append(
                "Warning: in this format the file loses much of what the adapter learned. Choose a "
                "finer one with --quantize, such as q8_0."
            )
        return found


@dataclass(frozen=True)
class LlamaAgreement:
    """How llama.cpp's answers compare with the reference.

    ``largest_difference`` is between the log-probabilities of likely first tokens. For each prompt,
    ``equal`` of ``tokens`` greedy tokens are the same before the first that differs.
    """

    largest_difference: float
    equal: list[int]
    tokens: list[int]

    @property
    def identical(self) -> int:
        """The number of prompts with identical answers."""
        return sum(a == b for a, b in zip(self.equal, self.tokens, strict=True))

    def lines(self) -> list[str]:
        """The comparison in two lines of text."""
        different = [
            f"after {same} of {of} tokens"
            for same, of in zip(self.equal, self.tokens, strict=True)
            if same != of
        ]
        parted = ""
        if different:
            why = ", where rounding decides between likely tokens"
            parted = (
                f"; the other{'s part' if len(different) > 1 else ' parts'} from base and adapter "
                f"{', '.join(different)}{why if self.largest_difference < 1 else ''}"
            )
        return [
            f"llama.cpp: {self.identical} of {len(self.equal)} answers are the same over up to "
            f"{TOKENS} tokens{parted}",
            f"llama.cpp: log-probabilities of the likeliest tokens differ by up to "
            f"{self.largest_difference:.1e}",
        ]


@dataclass(frozen=True)
class Checked:
    """What to print of a check; ``losses`` are None where llama.cpp was not asked."""

    lines: list[str]
    losses: Losses | None = None


def check_file(
    tuned: TunedModel,
    folder: Path,
    part: Path,
    *,
    merged: bool,
    allow_loss: bool,
    base_file: Path | None = None,
    on_event: OnEvent,
) -> Checked:
    """Compare the file with base and adapter, through llama.cpp.

    An adapter is checked on ``base_file``, by default the run's own base; where that is no GGUF
    file, it cannot be. ``CheckFailed`` if llama.cpp cannot load the file or, unless ``allow_loss``,
    answers further from base and adapter than ``LIMITS`` allows. A quantised file that lost what
    the adapter learned is only told of.
    """
    if not llamacpp.is_installed():
        return Checked(['Not checked: llama.cpp is not installed (pip install "lorita[llamacpp]")'])
    model, adapter = (part, None) if merged else (base_file or tuned.base.gguf_path, part)
    if model is None:
        return Checked(["Not checked: llama.cpp would need the base as a GGUF file"])
    references = ask_reference(tuned, prompts_of_run(folder), on_event)
    base_loss = _base_loss(tuned, references)
    on_event(PhaseStarted("Asking llama.cpp"))
    server = _server(model, references, adapter)
    found = _compare(server, references)
    limit = LIMITS.get(_format_of(model))
    if limit is not None and not found.largest_difference <= limit and not allow_loss:
        raise CheckFailed(
            [f"the file differs from base and adapter (limit {limit:g})", *found.lines()],
            hint="Nothing was written. Use --allow-loss to write it anyway.",
        )
    shown = [reference for reference in references if reference.answer][:LOSS_PROMPTS]
    if not shown:
        return Checked(found.lines())
    losses = Losses(base_loss, _mean([_own_losses(one) for one in shown]), _loss(server, shown))
    return Checked([*found.lines(), *losses.lines()], losses)


def _base_loss(tuned: TunedModel, references: Sequence[Reference]) -> float | None:
    """The loss of the first answers in the base alone; None where the adapter replaced parts."""
    if tuned.overwritten_by is not None or any(map(changes_base, tuned.model.peft_config.values())):
        return None  # it would have to be loaded again
    with tuned.bare() as model:
        bare = with_logits(model, [one for one in references if one.answer][:LOSS_PROMPTS])
    if not bare:
        return None
    return _mean([_own_losses(one) for one in bare])


def _own_losses(reference: Reference) -> list[float]:
    """The loss of each token of the answer, by the reference's own logits."""
    assert reference.logits_NV is not None
    logprobs_NV = reference.logits_NV.log_softmax(-1)
    return [-float(logprobs_NV[at, token]) for at, token in enumerate(reference.answer)]


def _loss(server: llamacpp.LlamaCpp, references: Sequence[Reference]) -> float:
    """The mean loss of the references' answers by llama.cpp."""
    losses = []
    for reference in references:
        for at, token in enumerate(reference.answer):
            before = [*reference.ids, *reference.answer[:at]]
            top = server.likeliest(before, count=_LIKELY, goes_on=at > 0)
            losses.append(-top.get(token, min(top.values())))
    return _mean([losses])


def _mean(losses: Sequence[Sequence[float]]) -> float:
    values = [value for row in losses for value in row]
    return sum(values) / len(values)


def _format_of(path: Path) -> str:
    """The key into ``LIMITS`` for a model in this file: llama.cpp computes in its format."""
    names = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
    return names.get(float_type(path) or "", "quantised")


def ask_llamacpp(
    model: Path, references: Sequence[Reference], *, adapter: Path | None = None
) -> LlamaAgreement:
    """Answer the references' prompts with a GGUF file, through llama.cpp, and compare."""
    return _compare(_server(model, references, adapter), references)


def _server(
    model: Path, references: Sequence[Reference], adapter: Path | None
) -> llamacpp.LlamaCpp:
    longest = max(len(reference.ids) for reference in references)
    return llamacpp.LlamaCpp(model, adapter=adapter, context=max(256, longest + TOKENS + 8))


def _compare(server: llamacpp.LlamaCpp, references: Sequence[Reference]) -> LlamaAgreement:
    import torch

    largest = 0.0
    equal, tokens = [], []
    for reference in references:
        said, _ = server.complete(reference.ids, tokens=max(1, len(reference.answer)))
        same = 0
        for ours, theirs in zip(reference.answer, said, strict=False):
            if ours != theirs:
                break
            same += 1
        equal.append(same)
        tokens.append(len(reference.answer))
        if reference.logits_NV is not None:
            likely_V = torch.log_softmax(reference.logits_NV[0], -1)
            top = server.likeliest(reference.ids)
            largest = max(largest, *(abs(float(likely_V[i]) - p) for i, p in top.items()))
    return LlamaAgreement(largest, equal, tokens)
