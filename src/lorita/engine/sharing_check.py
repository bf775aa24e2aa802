"""Can rows share a beginning in this model? Found out with numbers, as in ``self_check.py``.

The fast step is compared with itself: rows that share a beginning, and the same rows apart. A model
in which a token depends on others in any other way than through attention would differ.
"""

from __future__ import annotations

import torch
from torch import nn

from lorita.engine.causal_lm import causal_lm, evaluating, ordinary_ids
from lorita.engine.kernels.row_layout import RowLayout
from lorita.engine.own_numbers import distance, tolerance_of
from lorita.engine.packed_model import hidden_states
from lorita.engine.patch import patch_of

SHARED = RowLayout((9, 5, 7), (None, 0, 0))
ROUNDING = 4
"""Times the tolerance of one layer: rounding adds up over all layers, and another computation than
the intended one is much further away."""


def why_not_shared(model: nn.Module) -> str | None:
    """Why a beginning cannot be computed once for several rows; None if it can.

    The model is one that ``speedup`` was called on, or none of that kind.
    """
    lm = causal_lm(model)
    patch = patch_of(lm)
    if patch is None or not patch.packs_rows:
        return "rows of this model are not laid end to end"
    ids_T = ordinary_ids(lm, SHARED.num_tokens)
    sources, own = SHARED.sources.to(ids_T.device), SHARED.own.to(ids_T.device)
    try:
        with evaluating(lm), torch.no_grad():
            shared_TD = hidden_states(lm, patch, ids_T, SHARED)
            apart_TD = hidden_states(lm, patch, ids_T[sources], SHARED.full)[own]
    except Exception as error:  # an unknown model may fail in any way on unexpected input
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    differ, allowed = distance(shared_TD, apart_TD), ROUNDING * tolerance_of(shared_TD)
    return None if differ <= allowed else f"its hidden states would differ by {differ:.1e}"
