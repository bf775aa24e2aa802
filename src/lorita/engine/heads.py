"""The output head of a causal LM: from its last hidden states to its logits.

Three kinds, from fast to general. ``causal_lm.head_of`` says which one a model has.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lorita.engine.autocast import autocast_for


class Head(ABC):
    """What a causal LM does with its last hidden states."""

    module: nn.Module
    """Holds the head's parameters."""
    vocabulary: int
    """The width of the logits."""

    @abstractmethod
    def logits(self, hidden_ND: Tensor) -> Tensor:
        """The model's logits [N, V] from its last hidden states, float32."""

    @abstractmethod
    def copy(self) -> Head:
        """The same head, which training and unloading do not change; frozen matrices are shared."""

    def logits_of_any(self, hidden_ND: Tensor) -> Tensor:
        """``logits`` of hidden states in any number format, computed in that of the head."""
        weight = next(self.module.parameters(), None)
        if weight is None:
            return self.logits(hidden_ND)
        with autocast_for(self.module, weight.device):
            return self.logits(hidden_ND.to(weight.dtype))


@dataclass(frozen=True)
class LinearHead(Head):
    """One linear layer, adapted or not, whose outputs are scaled and perhaps softly capped."""

    module: Any
    vocabulary: int
    scale: float = 1.0
    softcap: float | None = None

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """See ``Head``."""
        logits_NV: Tensor = self.module(hidden_ND).float() * self.scale
        return self.softcap * torch.tanh(logits_NV / self.softcap) if self.softcap else logits_NV

    def copy(self) -> LinearHead:
        """See ``Head``."""
        return replace(self, module=_copied(self.module, {}))

    def is_frozen_linear(self) -> bool:
        """Whether it is a plain layer that needs no gradient."""
        head = self.module
        return (
            type(head) is nn.Linear
            and not head.weight.requires_grad
            and (head.bias is None or not head.bias.requires_grad)
        )


class OwnHead(Head):
    """The model's own forward from its last hidden states on, whatever it does there.

    The model is called with a body that returns the given hidden states.
    """

    def __init__(self, lm: Any, body: nn.Module, output_type: Any, vocabulary: int) -> None:
        self.output_type, self.vocabulary = output_type, vocabulary
        self._body = _GivenStates(body, output_type)
        (path,) = (name for name, module in lm.named_modules() if module is body)
        self.module = _with_part(lm, path.split("."), self._body)

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """See ``Head``."""
        self._body.states = hidden_ND[None]
        ids_1N = torch.zeros(1, len(hidden_ND), dtype=torch.long, device=hidden_ND.device)
        try:
            out = self.module(input_ids=ids_1N, use_cache=False)
        finally:
            self._body.states = None
        logits_NV: Tensor = out.logits[0].float()
        return logits_NV

    def copy(self) -> OwnHead:
        """See ``Head``."""
        twin = copy.copy(self)
        twin._body = _GivenStates(self._body.original[0], self.output_type)
        twin.module = _copied(self.module, {id(self._body): twin._body})
        return twin


class WholeModel(Head):
    """For models whose logits do not come from hidden states alone: the "states" are the logits."""

    def __init__(self, vocabulary: int) -> None:
        self.module, self.vocabulary = nn.Identity(), vocabulary

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """See ``Head``."""
        return hidden_ND.float()

    def copy(self) -> WholeModel:
        """See ``Head``."""
        return self


class _GivenStates(nn.Module):
    """Stands in for a body: returns given hidden states [1, N, D], has its other attributes."""

    def __init__(self, original: nn.Module, output_type: Any) -> None:
        super().__init__()
        self.original = (original,)  # in a tuple: it is no part of this module
        self.output_type = output_type
        self.states: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(vars(self)["original"][0], name)

    def __deepcopy__(self, memo: dict[int, Any]) -> _GivenStates:
        return _GivenStates(self.original[0], self.output_type)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The given states, in the form of the body's own output."""
        if issubclass(self.output_type, tuple):
            return (self.states,)
        return self.output_type(last_hidden_state=self.states)


def _with_part(module: Any, path: list[str], part: nn.Module) -> Any:
    """The same module as another object, with its class's own forward and one part exchanged."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    for name in [n for n in vars(twin) if n == "forward" or n.startswith("_lorita")]:
        del vars(twin)[name]
    inner = _with_part(twin._modules[path[0]], path[1:], part) if path[1:] else part
    twin._modules[path[0]] = inner
    return twin


def _copied(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """A copy that shares frozen matrices and computes by its classes' own forwards."""
    shared = {id(p): p for p in module.parameters() if p.ndim > 1 and not p.requires_grad}
    twin = copy.deepcopy(module, {**memo, **shared})
    for part in twin.modules():  # a fast forward on the instance belongs to the original
        vars(part).pop("forward", None)
    return twin
