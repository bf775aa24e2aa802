"""Whether a decoder and its model agree on numbers, found out on each model before it is used.

The reference is the model as it is, with its own attention and without a cache: each row alone, as
a whole. The decoder is given the rows' beginnings, and then token after token. Each layer is
compared by itself, with the same input on both sides, and so are the logits; windows are shortened
meanwhile, so that tokens leave them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lorita.engine.activated import acting_from
from lorita.engine.blocks import Call, find_blocks, forcing, joined, recording
from lorita.engine.causal_lm import body_of, causal_lm, evaluating, ordinary_ids
from lorita.engine.kernels.int8 import unrounded
from lorita.engine.kernels.row_layout import RowLayout
from lorita.engine.own_numbers import (
    distance,
    increment_distance,
    own_outputs,
    short_windows,
    tolerance_of,
)
from lorita.engine.plans import Unsuited

if TYPE_CHECKING:
    from lorita.engine.decoding.decoder import Decoder

ROWS = RowLayout((6, 8))
STEPS = 2
"""Tokens of each row that are computed one at a time."""
_known: WeakKeyDictionary[nn.Module, dict[str, str | None]] = WeakKeyDictionary()


def why_not(model: nn.Module, make: Callable[[nn.Module], Decoder]) -> str | None:
    """Why the model cannot be used through a decoder that ``make`` makes; None if it can."""
    lm = causal_lm(model)
    if torch.is_autocast_enabled("cpu"):
        return "autocast is on"
    known = _known.setdefault(lm, {})
    key = _structure(lm)
    if key not in known:
        known[key] = disagreement(model, make)
    return known[key]


def _structure(lm: Any) -> str:
    """What a decoder's forwards depend on, other than the numbers in the weights."""
    switches = ("disable_adapters", "active_adapters", "merged")
    modules = [
        (type(module).__name__, *(getattr(module, name, None) for name in switches))
        for module in lm.modules()
    ]
    return f"{lm.get_input_embeddings().weight.dtype} {modules}"


def disagreement(model: nn.Module, make: Callable[[nn.Module], Decoder]) -> str | None:
    """How the decoder's numbers differ from the model's own; None if they do not."""
    lm = causal_lm(model)
    try:
        body_of(lm)  # computes a few tokens the first time, which are not to be recorded
        with acting_from(lm), short_windows(lm), _unchanged(lm):
            decoder = make(model)
            calls, logits = _reference(lm)
            return _compared(decoder, calls, logits, _twins(lm, decoder))
    except Unsuited as reason:
        return str(reason)
    except Exception as error:  # an unknown model may fail in any way on unexpected input
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


@contextmanager
def _unchanged(lm: nn.Module) -> Iterator[None]:
    """The model's numbers are those of its own weights, and nothing is dropped or recorded."""
    with unrounded(), evaluating(lm), torch.inference_mode():
        yield


def _twins(lm: nn.Module, decoder: Decoder) -> dict[nn.Module, nn.Module]:
    return dict(zip(lm.modules(), decoder.twin.modules(), strict=True))


def _reference(lm: Any) -> tuple[list[Call], list[Tensor]]:
    """The calls of the layers over all rows, end to end, and each row's logits."""
    blocks, calls, logits = find_blocks(lm), [], []
    for row_T in ordinary_ids(lm, ROWS.num_tokens).split(list(ROWS.lengths)):
        with recording(blocks) as of_row:
            logits.append(own_outputs(lm, row_T)[1])
        calls.append(of_row)
    return joined(calls), logits


def _compared(
    decoder: Decoder,
    calls: Sequence[Call],
    logits: Sequence[Tensor],
    twins: dict[nn.Module, nn.Module],
) -> str | None:
    ids = [row.tolist() for row in ordinary_ids(decoder.twin, ROWS.num_tokens).split(ROWS.lengths)]
    slots: list[int] = []
    for step in range(STEPS + 1):
        # Of each row, the tokens that are computed now: from the first on, or one.
        ends = [length - STEPS + step for length in ROWS.lengths]
        spans = [(0 if step == 0 else end - 1, end) for end in ends]
        places = torch.cat(
            [
                torch.arange(start + first, start + end)
                for (start, _), (first, end) in zip(ROWS.spans, spans, strict=True)
            ]
        )
        expected = [
            Call(twins[c.block], c.natural[places], c.inputs[places], c.outputs[places])
            for c in calls
        ]
        with forcing(expected, [end - first for first, end in spans]) as got:
            if step == 0:
                slots, logits_nV = decoder.prefill(
                    [row[:end] for row, end in zip(ids, ends, strict=True)]
                )
            else:
                tokens = [row[end - 1] for row, end in zip(ids, ends, strict=True)]
                logits_nV = decoder.step(slots, tokens)
        own_nV = torch.stack([row[end - 1] for row, end in zip(logits, ends, strict=True)])
        wrong = _difference(got, expected, logits_nV, own_nV)
        if wrong is not None:
            return f"{wrong} (step {step})"
    return None


def _difference(
    got: Sequence[Call], expected: Sequence[Call], logits_nV: Tensor, own_nV: Tensor
) -> str | None:
    layers = list(zip(got, expected, strict=True))
    allowed = tolerance_of(got[0].outputs) if got else 1e-3
    for what, apart in (
        ("inputs of layers", [distance(mine.natural, own.inputs) for mine, own in layers]),
        ("outputs of layers", [increment_distance(mine, own) for mine, own in layers]),
        ("logits", [distance(logits_nV, own_nV)]),
    ):
        if not max(apart, default=0.0) <= allowed:
            return f"{what} differ by {max(apart):.1e}"
    return None
