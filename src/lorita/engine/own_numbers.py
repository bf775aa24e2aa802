"""A model's own numbers, and how far others are from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lorita.engine.blocks import Call
from lorita.engine.causal_lm import body_of

WINDOW = 4
WINDOWS = ("sliding_window", "sliding_window_size", "attention_chunk_size",
           "attention_window_size", "window_size", "local_attention")  # fmt: skip
"""Settings that limit how far back a token looks."""
TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 2e-2}


@contextmanager
def short_windows(lm: nn.Module) -> Iterator[bool]:
    """In this context, windows are shorter than the rows of the check; whether there were any."""
    changed: list[tuple[Any, str, int]] = []
    owners = {id(o): o for m in lm.modules() for o in (m, getattr(m, "config", None))}
    for owner in owners.values():
        for name in WINDOWS:
            value = vars(owner).get(name) if hasattr(owner, "__dict__") else None
            if type(value) is int and value > WINDOW:
                changed.append((owner, name, value))
    for owner, name, _ in changed:
        setattr(owner, name, WINDOW)
    try:
        yield bool(changed)
    finally:
        for owner, name, value in changed:
            setattr(owner, name, value)


def own_outputs(lm: Any, row_T: Tensor) -> tuple[Tensor, Tensor]:
    """The model's last hidden states [T, D] of a row, and its logits [T, V], float32."""
    body, states = body_of(lm), []
    hook = body.register_forward_hook(lambda m, args, out: states.append(out))
    try:
        out = lm(input_ids=row_T[None], use_cache=False)
    finally:
        hook.remove()
    logits_TV = out.logits[0].float()
    return (logits_TV if body is lm else states[-1][0][0]), logits_TV


def tolerance_of(like: Tensor) -> float:
    """How far numbers in the format of this tensor may be apart, relative to their size."""
    return TOLERANCES.get(like.dtype, 1e-2)


def distance(fast_TD: Tensor, own_TD: Tensor) -> float:
    """The largest distance of a token's states from its own, relative to their size."""
    apart_T = (fast_TD.detach().float() - own_TD.float()).norm(dim=-1)
    return float((apart_T / own_TD.float().norm(dim=-1).clamp_min(1e-9)).max())


def increment_distance(fast: Call, own: Call) -> float:
    """The largest distance of what a layer adds to a token's states, relative to its size.

    The states are often far larger than what is added, and so is their rounding.
    """
    fast_TD, own_TD = fast.outputs.detach().float(), own.outputs.float()
    rounding_T = torch.finfo(own.outputs.dtype).eps * own_TD.norm(dim=-1)
    apart_T = ((fast_TD - own_TD).norm(dim=-1) - rounding_T).clamp_min(0)
    added_T = (own_TD - own.inputs.float()).norm(dim=-1)
    return float((apart_T / added_T.clamp_min(1e-9)).max())
