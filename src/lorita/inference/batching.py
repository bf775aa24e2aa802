"""Whether prompts may be answered together: a batch must not change an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import torch

LENGTHS = (3, 8)
"""Tokens of the prompts that it is found out with."""
NEW_TOKENS = 3
_known: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


def can_answer_together(model: Any) -> bool:
    """Whether a prompt in a batch, padded on the left with a mask, is continued as it is alone.

    Some models ignore the mask, or mix up the states of a batch. Found out once for each model.
    False if the model cannot be asked.
    """
    from lorita.engine.causal_lm import causal_lm

    lm = causal_lm(model)
    if lm not in _known:
        try:
            _known[lm] = _same_in_a_batch(lm)
        except Exception:  # an unknown model may fail in any way
            _known[lm] = False
    return _known[lm]


def _same_in_a_batch(lm: Any) -> bool:
    """Whether the new tokens of a short prompt have the same logits beside a long one."""
    import torch

    from lorita.engine.causal_lm import evaluating, ordinary_ids

    long_T = ordinary_ids(lm, max(LENGTHS))
    short_T = long_T[: min(LENGTHS)]
    padding = long_T[:1].expand(len(long_T) - len(short_T))
    both_BL = torch.stack([torch.cat([padding, short_T]), long_T])
    mask_BL = torch.ones_like(both_BL)
    mask_BL[0, : len(padding)] = 0
    with evaluating(lm), torch.inference_mode():
        alone_N, alone_NV = _continued(lm, short_T[None], torch.ones_like(short_T[None]))
        beside_N, beside_NV = _continued(lm, both_BL, mask_BL)
    # Logits after a token that rounding has changed say nothing.
    changed = int((alone_N == beside_N).long().cumprod(0).sum())
    alone_NV, beside_NV = alone_NV[: changed + 1], beside_NV[: changed + 1]
    # What has nothing to do with it is apart by about 1.
    tolerance = 1e-3 if next(lm.parameters()).dtype == torch.float32 else 0.2
    apart = (alone_NV.float() - beside_NV.float()).norm() / alone_NV.float().norm()
    return bool(apart <= tolerance)


def _continued(
    lm: Any, ids_BL: torch.Tensor, mask_BL: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The new tokens [N] of the first prompt and their logits [N, V]."""
    import torch

    made = lm.generate(
        input_ids=ids_BL,
        attention_mask=mask_BL,
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        pad_token_id=0,
    )
    return made.sequences[0, ids_BL.shape[1] :], torch.stack([step[0] for step in made.logits])
