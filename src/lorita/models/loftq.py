"""LoftQ (Li et al., 2023, arXiv:2310.08659): an adapter that starts as what quantising took away.

One round of it: the quantised weights Q stay what every later loading makes of the base, and
``scaling · B·A`` is the best approximation of W - Q of the adapter's rank. Further rounds would
quantise W less the adapter instead, which no other copy of the base holds. PEFT does the same for
bases in bitsandbytes' format, but forgets the scaling.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lorita.engine.linears import weight_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def start_loftq(layers: Mapping[str, Any], original: PreTrainedModel) -> None:
    """Start the layers of an adapter, given by name, from the base before it was quantised."""
    import torch

    with torch.no_grad():
        for name, layer in layers.items():
            rounded = weight_of(layer.get_base_layer()).detach().float()
            lost_OI = weight_of(original.get_submodule(name)).detach().float() - rounded
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            r, scaling = len(a), float(layer.scaling["default"])
            u_OK, s_K, v_KI = torch.linalg.svd(lost_OI, full_matrices=False)
            root_r = s_K[:r].sqrt()
            a.copy_(root_r[:, None] * v_KI[:r])
            b.copy_(u_OK[:, :r] * root_r / scaling)
