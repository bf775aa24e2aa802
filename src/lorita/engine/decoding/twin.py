"""A second set of modules over the same parameters, which can be given other forwards.

The model itself stays as it is: it may be in use by another thread, or in the middle of training.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from lorita.engine.patch import patch_of
from lorita.engine.plans import Unsuited

CACHED = "lorita-cached"
"""The twin's name in transformers' registry of attention functions."""


def twin_of(lm: nn.Module) -> Any:
    """The same modules as other objects, in evaluation mode, with the classes' own forwards.

    Parameters and buffers are shared. Attention masks are not made: whoever asks for the twin
    computes attention. Forwards that others have set on a module stay.
    """
    _register()
    patch = patch_of(lm)
    fast = {id(module): forward for module, forward in patch.forwards} if patch else {}
    memo: dict[int, Any] = {}
    twins: dict[int, nn.Module] = {}
    for module in lm.modules():
        twin = copy.copy(module)
        for name, value in list(vars(twin).items()):
            if name.startswith("_lorita"):
                del vars(twin)[name]
            elif isinstance(value, dict) and "_hooks" in name:
                vars(twin)[name] = copy.copy(value)
        if "forward" in vars(twin) and vars(module)["forward"] is fast.get(id(module)):
            del twin.forward
        twin.training = False
        config = getattr(module, "config", None)
        if getattr(config, "_attn_implementation", None) is not None:
            twin.config = copy.deepcopy(config, memo)
            twin.config._attn_implementation = CACHED
        twins[id(module)] = twin
    for module in lm.modules():
        twins[id(module)]._modules = {
            name: None if child is None else twins[id(child)]
            for name, child in module._modules.items()
        }
    return twins[id(lm)]


def _register() -> None:
    """Make no masks for a twin, and let no attention through that has none of the new forwards."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise Unsuited("an attention module was not recognised")

    def no_mask(*args: Any, **kwargs: Any) -> None:
        return None

    AttentionInterface.register(CACHED, refuse)
    AttentionMaskInterface.register(CACHED, no_mask)
