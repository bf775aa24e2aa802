"""Does the fast step compute what the model computes? Found out with numbers, on each model.

The reference is the model as it was, with its own attention: each row alone, loss and gradients.
Rows have different lengths, and windows are shortened meanwhile, so that every row is longer than
one. Each layer is compared by itself (``blocks.py``): with one row, without gradients. All the rows
and the gradients go through the first layer of each kind, and past the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional

from lorita.engine.blocks import (
    Call,
    find_blocks,
    forcing,
    joined,
    one_of_each_kind,
    recording,
    repeated,
    skipping,
)
from lorita.engine.causal_lm import body_of, causal_lm, evaluating, ordinary_ids
from lorita.engine.kernels.row_layout import RowLayout
from lorita.engine.own_numbers import (
    TOLERANCES,
    distance,
    increment_distance,
    own_outputs,
    tolerance_of,
)
from lorita.engine.packed_model import hidden_states, loss_at_targets
from lorita.engine.patch import Patch

ROWS = RowLayout((9, 5, 12))


@dataclass(frozen=True)
class Reference:
    """What the model itself computes for the rows of the check."""

    ids_T: Tensor
    calls: list[Call]
    """Of its layers."""
    hidden_TD: Tensor
    """After the last one and the last norm."""
    loss: float
    """Nats, summed over the targets."""
    gradients: dict[str, Tensor]
    """Of the trained parameters, by name, layer by layer; empty without any."""
    has_own_loss: bool
    """The loss that the model returns is not the mean loss of its next tokens."""
    skipped: Sequence[nn.Module] = ()
    """Layers that the rows went past."""
    whole: Sequence[Call] = ()
    """Of all layers, for the last row alone; empty if none was skipped."""


def reference(lm: Any) -> Reference:
    """Loss and gradients of the check's rows, each alone, by the model without any fast forward.

    Raises whatever the model raises.
    """
    body_of(lm)  # computes a few tokens the first time, which are not to be recorded
    blocks = find_blocks(lm)
    for way in (_mostly_skipped, _computed):
        with suppress(Exception):  # a layer needs another, or takes or returns something else
            return way(lm, blocks)
    return _computed(lm, [])


def _mostly_skipped(lm: Any, blocks: Sequence[nn.Module]) -> Reference:
    """All layers once, for the last row; then the rows, past layers of a kind seen before."""
    row_T = _last_row(ordinary_ids(lm, ROWS.num_tokens))
    with evaluating(lm), torch.no_grad(), recording(blocks) as whole:
        own_outputs(lm, row_T)
    skipped = repeated(whole)
    with skipping(skipped):
        found = _computed(lm, blocks)
    return replace(found, skipped=skipped, whole=whole if skipped else ())


def _last_row(ids_T: Tensor) -> Tensor:
    return ids_T[-ROWS.lengths[-1] :]


def _computed(lm: Any, blocks: Sequence[nn.Module]) -> Reference:
    ids_T = ordinary_ids(lm, ROWS.num_tokens)
    hidden, losses, calls = [], [], []
    trained = _trained(lm)
    rows = ids_T.split(list(ROWS.lengths))
    with evaluating(lm), torch.set_grad_enabled(bool(trained)):
        for row_T in rows:
            with recording(blocks) as of_row:
                states_TD, logits_TV = own_outputs(lm, row_T)
            calls.append(of_row)
            hidden.append(states_TD)
            losses.append(functional.cross_entropy(logits_TV[:-1], row_T[1:], reduction="sum"))
        loss, of_all = torch.stack(losses).sum(), joined(calls)
        gradients = _gradients(loss, of_all, trained)
        mean_loss = float(losses[1].detach()) / (len(rows[1]) - 1)
        own_loss = _has_own_loss(lm, rows[1], mean_loss)
    return Reference(
        ids_T,
        [call.detached() for call in of_all],
        torch.cat(hidden).detach(),
        float(loss.detach()),
        gradients,
        own_loss,
    )


def disagreement(lm: Any, patch: Patch, expected: Reference) -> str | None:
    """How the step with this patch differs from the model's own; None if it does not."""
    trained = _trained(lm)
    try:
        wrong = _disagreement_of_layers(lm, patch, expected)
        if wrong is not None:
            return wrong
        with (
            evaluating(lm),
            torch.set_grad_enabled(bool(trained)),
            skipping(expected.skipped),
        ):
            with forcing(expected.calls, ROWS.lengths) as calls:
                hidden_TD = hidden_states(lm, patch, expected.ids_T, ROWS)
            loss = loss_at_targets(lm, patch, hidden_TD, expected.ids_T, ROWS)
            gradients = _gradients(loss, calls, trained)
    except Exception as error:  # an unknown model may fail in any way on unexpected input
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    tolerance = tolerance_of(hidden_TD)
    for what, apart, allowed in (
        *_of_layers(calls, expected.calls, tolerance),
        ("hidden states differ", distance(hidden_TD, expected.hidden_TD), tolerance),
        ("the loss differs", abs(float(loss.detach()) / expected.loss - 1), tolerance),
        ("gradients differ", _gradient_distance(gradients, expected.gradients), 4 * tolerance),
    ):
        if not apart <= allowed:
            return f"{what} by {apart:.1e}"
    return None


def _disagreement_of_layers(lm: Any, patch: Patch, expected: Reference) -> str | None:
    """How layers differ that the rows go past; seen from the last row, without gradients."""
    if not expected.whole:
        return None
    lengths = ROWS.lengths[-1:]
    with evaluating(lm), torch.no_grad(), forcing(expected.whole, lengths) as calls:
        hidden_TD = hidden_states(lm, patch, _last_row(expected.ids_T), RowLayout(lengths))
    for what, apart, allowed in _of_layers(calls, expected.whole, tolerance_of(hidden_TD)):
        if not apart <= allowed:
            return f"{what} by {apart:.1e}"
    return None


def _of_layers(
    calls: Sequence[Call], expected: Sequence[Call], tolerance: float
) -> list[tuple[str, float, float]]:
    """What differs, by how much, and how much is allowed."""
    layers = list(zip(calls, expected, strict=True))
    entering = [distance(fast.natural, own.inputs) for fast, own in layers]
    of_layers = [increment_distance(fast, own) for fast, own in layers]
    return [
        ("inputs of layers differ", max(entering, default=0.0), tolerance),
        ("outputs of layers differ", max(of_layers, default=0.0), tolerance),
    ]


def padding_is_harmless(model: nn.Module) -> bool:
    """Whether rows padded side by side have the numbers that each has alone.

    A model that cannot be checked is taken to be like most: padded on the right, with a mask.
    """
    lm = causal_lm(model)
    if lm not in _harmless:
        try:
            _harmless[lm] = disagreement(lm, Patch(), reference(lm)) is None
        except Exception:
            _harmless[lm] = True
    return _harmless[lm]


_harmless: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def _has_own_loss(lm: Any, row_T: Tensor, mean_loss: float) -> bool:
    """Whether the model, asked for its loss, returns another than the mean of its next tokens."""
    if getattr(lm.config.get_text_config(), "output_router_logits", False):
        return True  # what it adds for balanced experts is small, but meant
    try:
        with torch.no_grad():
            loss = float(lm(input_ids=row_T[None], labels=row_T[None], use_cache=False).loss)
    except Exception:  # it computes none
        return True
    return not abs(loss - mean_loss) <= TOLERANCES.get(lm.dtype, 1e-2) * mean_loss


def _trained(lm: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in lm.named_parameters() if p.requires_grad}


def _gradients(
    loss: Tensor, calls: Sequence[Call], trained: dict[str, nn.Parameter]
) -> dict[str, Tensor]:
    """By name; zeros where a parameter takes no part.

    Of the loss, which reaches back to the last layer, and of numbers made from the output of one
    layer of each kind.
    """
    if not trained:
        return {}
    total = loss
    for number, call in enumerate(one_of_each_kind(calls)):
        generator = torch.Generator().manual_seed(number)
        weights = torch.randn(call.outputs.shape, generator=generator)
        total = total + (call.outputs.float() * weights.to(call.outputs.device)).sum()
    if not total.requires_grad:
        return {}
    grads = torch.autograd.grad(total, list(trained.values()), allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if grad is None else grad
        for (name, parameter), grad in zip(trained.items(), grads, strict=True)
    }


def _gradient_distance(fast: dict[str, Tensor], own: dict[str, Tensor]) -> float:
    """The largest distance of a parameter's gradient, relative to its size.

    Not much smaller than that of the largest gradient: some gradients are zero but for rounding.
    """
    largest = max((float(grad.norm()) for grad in own.values()), default=0.0)
    return max(
        (
            float((fast[name] - grad).norm()) / max(float(grad.norm()), 0.05 * largest, 1e-9)
            for name, grad in own.items()
        ),
        default=0.0,
    )
