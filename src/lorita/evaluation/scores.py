"""How well a model predicts rows: the loss of every target, and whether it was the likeliest token.

Many rows at once, on the fast path where the model has one. Logits exist for a few hundred
positions at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorita.data.batches import MicroBatch, micro_batches
from lorita.data.examples import IGNORE, Example
from lorita.errors import RunFailed
from lorita.evaluation.row_losses import HeldOutLoss
from lorita.evaluation.score_batches import LOGITS, SMALLER, TOKENS, is_tight
from lorita.system.memory import available_memory, is_out_of_memory, may_be_out_of_memory

if TYPE_CHECKING:
    import torch

    from lorita.engine.heads import Head


@dataclass(frozen=True)
class Scores:
    """For N targets of several rows, in their order. ``counts`` are the targets of each row."""

    losses_N: torch.Tensor
    """Nats, float32."""
    hits_N: torch.Tensor
    """Whether the target was the token that greedy decoding would have taken."""
    counts: tuple[int, ...]

    def rows(self) -> HeldOutLoss:
        """The losses summed up for each row."""
        sums = (float(losses.double().sum()) for losses in self.losses_N.split(list(self.counts)))
        return HeldOutLoss(tuple(sums), self.counts)

    def row_hits(self) -> list[list[bool]]:
        """For each row, whether each of its targets was the model's most likely token."""
        return [hits.tolist() for hits in self.hits_N.split(list(self.counts))]


@dataclass(frozen=True)
class States:
    """The input of the output head at N targets, and the head: enough for all logits."""

    hidden_ND: torch.Tensor
    targets_N: torch.Tensor
    counts: tuple[int, ...]
    head: Head

    def scores(self) -> Scores:
        """The loss at each target, and whether the model's most likely token was the target."""
        return score_states(self.head, self.hidden_ND, self.targets_N, self.counts)


Advance = Callable[[float], None]
"""Told how many more rows, or tokens, are done."""


def _untold(by: float) -> None:
    """Nobody wants to know."""


def read_states(
    model: torch.nn.Module,
    examples: Sequence[Example],
    device: torch.device,
    *,
    advance: Advance = _untold,
) -> States:
    """Hidden states of all rows; keep it to rows that are few and short.

    ``advance`` is told how many more rows are done.
    """
    import torch

    from lorita.engine.causal_lm import head_of

    parts = []
    for part in _batches(model, examples, device):
        parts.append(part)
        advance(len(part[2]))
    return States(
        torch.cat([hidden for hidden, _, _ in parts]),
        torch.cat([targets for _, targets, _ in parts]),
        tuple(example.num_targets for example in examples),
        head_of(model).copy(),
    )


def score_rows(
    model: torch.nn.Module,
    examples: Sequence[Example],
    device: torch.device,
    *,
    before_each: Callable[[], None] = lambda: None,
    advance: Advance = _untold,
) -> Scores:
    """The scores of any number of rows; nothing but figures is kept of them.

    ``before_each`` is called before every few rows; what it raises ends the work. ``advance`` is
    told how many more rows are done.
    """
    import torch

    from lorita.engine.causal_lm import head_of

    head = head_of(model)
    parts = []
    for part in _batches(model, examples, device):
        before_each()
        parts.append(score_states(head, *part))
        advance(len(part[2]))
    return Scores(
        torch.cat([part.losses_N for part in parts]),
        torch.cat([part.hits_N for part in parts]),
        tuple(example.num_targets for example in examples),
    )


def score_states(
    head: Head, hidden_ND: torch.Tensor, targets_N: torch.Tensor, counts: Sequence[int]
) -> Scores:
    """Losses and hits of targets from what the output layer is given."""
    import torch

    losses, hits = [], []
    with torch.inference_mode():
        for here in _chunks(head, len(hidden_ND)):
            logits_CV = head.logits_of_any(hidden_ND[here])
            targets_C = targets_N[here]
            losses.append(torch.nn.functional.cross_entropy(logits_CV, targets_C, reduction="none"))
            hits.append(logits_CV.argmax(-1) == targets_C)
    return Scores(torch.cat(losses).cpu(), torch.cat(hits).cpu(), tuple(counts))


def divergences(tuned: States, base: States, *, advance: Advance = _untold) -> torch.Tensor:
    """KL divergence of tuned from base, KL(tuned ‖ base), at each of N positions; nats.

    Of the distributions over the next token, given the same tokens before it. ``advance`` is told
    how many more positions are done.
    """
    import torch

    found = []
    with torch.inference_mode():
        for here in _chunks(tuned.head, len(tuned.hidden_ND)):
            log_p_CV = tuned.head.logits_of_any(tuned.hidden_ND[here]).log_softmax(-1)
            log_q_CV = base.head.logits_of_any(base.hidden_ND[here]).log_softmax(-1)
            found.append((log_p_CV.exp() * (log_p_CV - log_q_CV)).sum(-1))
            advance(len(found[-1]))
    return torch.cat(found).cpu()


def _chunks(head: Head, count: int) -> Iterator[slice]:
    logits = LOGITS // SMALLER if is_tight(available_memory()) else LOGITS
    size = max(1, logits // head.vocabulary)
    return (slice(start, start + size) for start in range(0, count, size))


def _batches(
    model: torch.nn.Module, examples: Sequence[Example], device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor, list[int]]]:
    """Hidden states [N, D] and targets [N] of a few rows at a time, with each row's count."""
    import torch

    from lorita.engine.packed_model import is_sped_up
    from lorita.engine.self_check import padding_is_harmless

    together = is_sped_up(model) or padding_is_harmless(model)
    was_training = model.training
    model.eval()
    try:
        tokens = TOKENS // SMALLER if is_tight(available_memory()) else TOKENS
        for batch in micro_batches(examples, tokens if together else 1):
            with torch.inference_mode():
                for hidden_ND, targets_N, rows in _in_pieces(model, batch, device):
                    yield hidden_ND, targets_N, [row.num_targets for row in rows]
    finally:
        model.train(was_training)


def _in_pieces(
    model: torch.nn.Module, batch: MicroBatch, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor, Sequence[Example]]]:
    """As ``_at_targets``, with the rows; half as many at a time, and so on, if memory runs out.

    ``RunFailed`` if a single row does not fit.
    """
    rows = batch.examples
    try:
        found = _at_targets(model, batch, device)
    except (MemoryError, RuntimeError) as error:
        certain = is_out_of_memory(error)
        if not certain and (len(rows) == 1 or not may_be_out_of_memory(error)):
            raise
        if len(rows) == 1:
            raise RunFailed(
                f"a row of {batch.num_tokens} tokens does not fit in memory where it is scored",
                hint="Lower --max-length, or allow more memory.",
            ) from error
        found = None  # out of this block, or the error would keep what was computed
    if found is not None:
        yield *found, rows
        return
    half = len(rows) // 2
    for part in (rows[:half], rows[half:]):
        yield from _in_pieces(model, MicroBatch(part), device)


def _at_targets(
    model: torch.nn.Module, batch: MicroBatch, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:

    from lorita.engine.autocast import autocast_for
    from lorita.engine.causal_lm import body_of
    from lorita.engine.kernels.int8 import unrounded
    from lorita.engine.packed_model import is_sped_up, packed_targets

    if is_sped_up(model):
        with unrounded():  # no figure is of 8-bit products
            return packed_targets(model, *batch.end_to_end(device))
    inputs = batch.padded(0, device)
    labels_BL = inputs.pop("labels")[:, 1:]
    with autocast_for(model, device):
        hidden_BLD = body_of(model)(**inputs, use_cache=False)[0]
    wanted_BL = labels_BL != IGNORE
    return hidden_BLD[:, :-1][wanted_BL], labels_BL[wanted_BL]
