"""Layers other than attention that carry something from one token to the next, over packed rows.

Mamba, gated delta nets and short convolutions keep a state, which must not run from one row into
the next. Their own code is kept, and is given rows side by side, padded on the right: what comes
after a row's end changes nothing before it. All other layers stay packed. Whether that is right for
a model is checked with numbers (``self_check.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lorita.engine.kernels.row_layout import RowLayout
from lorita.engine.patch import CallState

ALIKE = 0.75
"""Rows at least this fraction of the longest are padded to it; shorter ones are a call of their
own, so that padding never costs more than a third."""


def looks_like_mixer(module: nn.Module) -> bool:
    """Whether a layer mixes tokens through a convolution, as all recurrent layers do.

    It is the layer that has the convolution as a part of its own.
    """
    return any(isinstance(child, nn.Conv1d) for child in module.children())


def mixer_forward(state: CallState, original: Callable[..., Any]) -> Callable[..., Any]:
    """The forward of a recurrent layer over packed rows, by its own code."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        hidden = args[0] if args else kwargs.get("hidden_states")
        rows = state.rows_of(hidden) if isinstance(hidden, Tensor) else None
        if rows is None:
            return original(*args, **kwargs)
        outputs: dict[int, Any] = {}
        for members in _alike(rows.full.lengths):
            places_BL = _places(rows, members).to(hidden.device)  # type: ignore[union-attr]
            out = original(*_side_by_side(args, places_BL), **_side_by_side(kwargs, places_BL))
            for place, row in enumerate(members):
                outputs[row] = _cut(out, place, rows.skipped[row], rows.full.lengths[row])
        return _joined([outputs[row] for row in range(len(rows.lengths))])

    return forward


def _alike(lengths: Sequence[int]) -> list[list[int]]:
    """Rows in groups of similar length, longest first."""
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if groups and lengths[row] >= ALIKE * lengths[groups[-1][0]]:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _places(rows: RowLayout, members: Sequence[int]) -> Tensor:
    """For each token of these rows, where it is in the packed input, [B, L].

    A row that continues another begins with that one's tokens. Padding repeats a row's last token.
    """
    sources = rows.sources.split(list(rows.full.lengths))
    width = max(rows.full.lengths[row] for row in members)
    padded = [torch.arange(width).clamp_max(rows.full.lengths[row] - 1) for row in members]
    return torch.stack([sources[row][i] for row, i in zip(members, padded, strict=True)])


def _side_by_side(value: Any, places_BL: Tensor) -> Any:
    """What is given for each token of the packed rows [1, T, …], as [B, L, …]; the rest as is."""
    if isinstance(value, dict):
        return {name: _side_by_side(each, places_BL) for name, each in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_side_by_side(each, places_BL) for each in value)
    if isinstance(value, Tensor) and value.ndim > 1 and value.shape[0] == 1:
        return value[0][places_BL] if value.shape[1] > int(places_BL.max()) else value
    return value


def _cut(out: Any, place: int, start: int, end: int) -> Any:
    """The output [end - start, …] of one row's own tokens, from [B, L, …]; None for the rest."""
    if isinstance(out, tuple):
        return tuple(_cut(each, place, start, end) for each in out)
    return out[place, start:end] if isinstance(out, Tensor) and out.ndim == 3 else None


def _joined(rows: Sequence[Any]) -> Any:
    """Outputs of rows as one of packed rows [1, T, …]."""
    if isinstance(rows[0], tuple):
        return tuple(_joined(each) for each in zip(*rows, strict=True))
    return None if rows[0] is None else torch.cat(list(rows))[None]
