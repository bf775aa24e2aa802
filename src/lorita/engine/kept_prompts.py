"""What an activated LoRA's base makes of the prompts: computed once, without a gradient, and kept.

Up to the invocation a row is the base's own, whatever the adapter has learned: its keys and values
are the same in every epoch, and no gradient goes through them. The tokens after them attend to
them. What all prompts begin with, such as a system prompt, is computed once, and the rest row by
row: so they do not depend on what else is in a micro-batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from lorita.engine.activated import NOWHERE, acting_from, activation_of, invocation_start
from lorita.engine.causal_lm import causal_lm, evaluating, ordinary_ids
from lorita.engine.families import DROPOUTS, angles_stretch
from lorita.engine.kernels.row_layout import RowLayout
from lorita.engine.kernels.shared_rows import after_kept
from lorita.engine.own_numbers import distance, tolerance_of
from lorita.engine.packed_model import IGNORE, hidden_states, loss_at_targets, packed_loss
from lorita.engine.patch import Patch, patch_of
from lorita.engine.plans import Unsuited
from lorita.engine.sharing_check import ROUNDING

COST = 8
"""So many kept tokens need about as much memory as one that is computed with a gradient."""
LEAST = 16
"""Shorter beginnings are computed in each prompt."""
LEAST_ONCE, LEAST_KEPT = 96, 32
"""Shorter prompts are computed with their rows: alone they take longer than they save, where they
are computed in a single epoch, and where they are kept (``benchmarks/kept_prompts.py``)."""
_CHECKED = RowLayout((5, 7), before=(9, 4))


@dataclass
class Prompt:
    """What the base computed for the first tokens of a row.

    ``states`` are keys and values [tokens, heads, d], by the place in the model; those of ``after``
    come before them. ``loss`` (nats) is the sum over the labels up to the first token after them.
    """

    after: Prompt | None = None
    states: dict[object, tuple[Tensor, Tensor]] = field(default_factory=dict)
    loss: float = 0.0

    @property
    def tokens(self) -> int:
        """How many tokens the states are of, with those that come before."""
        own = len(next(iter(self.states.values()))[0])
        return own if self.after is None else self.after.tokens + own

    @property
    def bytes(self) -> int:
        """The memory that the states take."""
        return sum(k.nbytes + v.nbytes for k, v in self.states.values())

    def joined(
        self, place: object, k_S1d: Tensor, v_S1d: Tensor, rows: RowLayout
    ) -> tuple[Tensor, Tensor]:
        """Keep what is computed for all tokens but the last, after what comes before them; see
        ``patch.Before``."""
        first, step = rows.slots(len(k_S1d) // rows.num_slots)
        heads = torch.arange(len(k_S1d) // rows.num_slots)
        slots = (first[:-1, None] + step[:-1, None] * heads).to(k_S1d.device)
        self.states[place] = (k_S1d[slots, 0], v_S1d[slots, 0])
        if self.after is None:
            return k_S1d, v_S1d
        return Beginning([self.after]).joined(place, k_S1d, v_S1d, rows)


@dataclass(frozen=True)
class Beginning:
    """The prompts of the rows of one call; None for a row without one."""

    prompts: Sequence[Prompt | None]

    def joined(
        self, place: object, k_S1d: Tensor, v_S1d: Tensor, rows: RowLayout
    ) -> tuple[Tensor, Tensor]:
        """Keys and values with those of the prompts before them; see ``patch.Before``."""
        pieces = [(prompt.after, prompt) for prompt in self.prompts if prompt is not None]
        kept = [piece.states[place] for both in pieces for piece in both if piece is not None]
        keys, values = (torch.cat(tensors) for tensors in zip(*kept, strict=True))
        return after_kept(k_S1d, keys, rows), after_kept(v_S1d, values, rows)


@dataclass
class KeptPrompts:
    """Prompts by their tokens and labels, up to ``limit`` bytes; beyond it, computed each time.

    Each token takes ``token_bytes``. ``common`` are the tokens that prompts begin with.
    """

    invocation: tuple[int, ...]
    limit: int
    token_bytes: int = 0
    common: tuple[int, ...] = ()
    beginning: Prompt | None = None
    prompts: dict[object, Prompt] = field(default_factory=dict)
    bytes: int = 0
    count: int = 0
    expected: int = 0
    """Of the rows that ``look_at`` has seen: how many prompts, and the bytes to be kept."""

    def length(self, input_ids: Sequence[int]) -> int:
        """How many tokens of a row come before the invocation; 0 if they are too few."""
        start = invocation_start(input_ids, self.invocation) or 0
        return start if start >= (LEAST_KEPT if self.limit else LEAST_ONCE) else 0

    def cost(self, input_ids: Sequence[int]) -> int:
        """How many tokens a row counts for when micro-batches are filled."""
        before = self.length(input_ids)
        return len(input_ids) - before + -(-before // COST)

    def of(self, lm: Any, patch: Patch, ids: Sequence[int], labels: Sequence[int]) -> Prompt | None:
        """The prompt of one row: kept, or computed and, where there is room, kept."""
        length = self.length(ids)
        if not length:
            return None
        known = (tuple(ids[: length + 1]), tuple(labels[: length + 1]))
        if known not in self.prompts:
            found = _computed(lm, patch, *known, after=self._beginning(lm, patch, *known))
            if self.bytes + found.bytes > self.limit:
                return found
            self.prompts[known] = found
            self.bytes += found.bytes
        return self.prompts[known]

    def _beginning(
        self, lm: Any, patch: Patch, ids: Sequence[int], labels: Sequence[int]
    ) -> Prompt | None:
        """What a prompt begins with, if it is common and none of it is trained."""
        count = len(self.common)
        if not count or tuple(ids[:count]) != self.common:
            return None
        if any(label != IGNORE for label in labels[: count + 1]):
            return None
        if self.beginning is None:  # its last token is computed and not kept: any will do
            self.beginning = _computed(lm, patch, [*self.common, 0], ())
        return self.beginning

    def look_at(self, rows: Iterable[Sequence[int]]) -> None:
        """Find what the prompts of these rows, as token ids, begin with in common."""
        common: Sequence[int] | None = None
        count = tokens = 0
        for row in rows:
            n = self.length(row)
            if not n:
                continue
            pairs = zip(row[:n] if common is None else common, row[:n], strict=False)
            common = [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
            count, tokens = count + 1, tokens + n
        self.common = tuple(common or ()) if count > 1 and len(common or ()) >= LEAST else ()
        once = max(count - 1, 0) * len(self.common)
        self.count, self.expected = count, min(self.limit, (tokens - once) * self.token_bytes)


def kept_prompts(model: nn.Module, limit: int) -> KeptPrompts | str:
    """What keeps prompts for this model's one activated adapter; or why it cannot be.

    ``limit`` in bytes. The model is one that ``speedup`` was called on.
    """
    lm = causal_lm(model)
    patch, activation = patch_of(lm), activation_of(lm)
    if patch is None or not patch.packs_rows:
        return "rows of this model are not laid end to end"
    if activation is None or len(activation.invocations) != 1:
        return "the model does not have one activated adapter"
    config = lm.config.get_text_config()
    if any(float(getattr(config, name, 0.0) or 0.0) > 0 for name in DROPOUTS):
        return "the base drops activations in training"
    if angles_stretch(lm):
        return "its rotary angles depend on the length of the text"
    ids_T = ordinary_ids(lm, _CHECKED.full.num_tokens)
    try:
        with acting_from(lm, NOWHERE), evaluating(lm), torch.no_grad():
            rows = ids_T.split(list(_CHECKED.full.lengths))
            both = list(zip(rows, _CHECKED.before, strict=True))
            found = [_computed(lm, patch, row[: n + 1].tolist(), ()) for row, n in both]
            own_T = torch.cat([row[n:] for row, n in both])
            after_TD = hidden_states(lm, patch, own_T, _CHECKED, kept=Beginning(found))
            own = _CHECKED.own.to(ids_T.device)
            whole_TD = hidden_states(lm, patch, ids_T, _CHECKED.full)[own]
    except Exception as error:  # an unknown model may fail in any way on unexpected input
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    differ, allowed = distance(after_TD, whole_TD), ROUNDING * tolerance_of(whole_TD)
    if not differ <= allowed:
        return f"its hidden states would differ by {differ:.1e}"
    (invocation,) = activation.invocations.values()
    return KeptPrompts(invocation, limit, found[0].bytes // found[0].tokens)


def loss_after_prompts(
    model: nn.Module, rows: Iterable[tuple[Sequence[int], Sequence[int]]], kept: KeptPrompts
) -> Tensor:
    """``packed_loss`` of rows of (token ids, labels), whose prompts are not computed again."""
    lm, rows = causal_lm(model), list(rows)
    patch, device = patch_of(lm), next(lm.parameters()).device
    assert patch is not None
    try:
        found = [kept.of(lm, patch, ids, labels) for ids, labels in rows]
        if not any(found):
            return _plain(model, rows, device)
        before = tuple(kept.length(ids) if prompt else 0 for (ids, _), prompt in _zip(rows, found))
        own = [(ids[n:], labels[n:]) for (ids, labels), n in _zip(rows, before)]
        layout = RowLayout(tuple(len(ids) for ids, _ in own), before=before)
        ids_T, labels_T = _end_to_end(own, device)
        hidden_TD = hidden_states(lm, patch, ids_T, layout, kept=Beginning(found))
    except Unsuited:  # the model asks for more than it did in the check
        patch.rows = "padded"
        return _plain(model, rows, device)
    loss = loss_at_targets(lm, patch, hidden_TD, labels_T, layout)
    return loss + sum(prompt.loss for prompt in found if prompt is not None)


def _computed(
    lm: Any,
    patch: Patch,
    ids: Sequence[int],
    labels: Sequence[int],
    after: Prompt | None = None,
) -> Prompt:
    """The prompt of all tokens but the last, with the loss of all labels, if there are any."""
    device, prompt = next(lm.parameters()).device, Prompt(after)
    before = 0 if after is None else after.tokens
    rows = RowLayout((len(ids) - before,), before=(before,) if before else ())
    with acting_from(lm, NOWHERE), evaluating(lm), torch.no_grad():
        ids_T = torch.tensor(list(ids[before:]), device=device)
        hidden_TD = hidden_states(lm, patch, ids_T, rows, kept=prompt)
        if any(label != IGNORE for label in labels[1:]):
            labels_T = torch.tensor(list(labels[before:]), device=device)
            prompt.loss = float(loss_at_targets(lm, patch, hidden_TD, labels_T, rows))
    return prompt


def _plain(model: nn.Module, rows: Sequence[Any], device: torch.device) -> Tensor:
    return packed_loss(model, *_end_to_end(rows, device), [len(ids) for ids, _ in rows])


def _end_to_end(rows: Sequence[Any], device: torch.device) -> tuple[Tensor, Tensor]:
    columns = ([item for row in rows for item in row[which]] for which in (0, 1))
    ids, labels = (torch.tensor(column, device=device) for column in columns)
    return ids, labels


def _zip(rows: Sequence[Any], others: Sequence[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(rows, others, strict=True)
