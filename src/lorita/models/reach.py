"""Which modules of a model a row of text reaches, found by asking the model itself.

A few tokens are sent through the model. Each module's output gets a zero added whose gradient
tells whether the logits depend on it in training. LoRA works in the same place, so a module without
a gradient here (the vision tower of an image-text model, a weight that is read but never called)
would keep its adapter at zero. Names are not looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorita.system.quiet import quiet_libraries

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

TOKENS = 8
"""Enough for every kind of layer; experts that none of them is sent to are judged as a group."""

SMALL = 2**17
"""Numbers in a weight that gets memory of its own, if the model has none."""


@dataclass(frozen=True)
class Reach:
    """What a text reaches.

    ``modules`` are the names whose output the logits depend on, ``not_linear`` those that return
    something else than a linear layer would, to which LoRA cannot add.
    """

    modules: frozenset[str]
    not_linear: frozenset[str]


def text_reach(model: PreTrainedModel, names: Collection[str]) -> Reach | None:
    """What a text reaches of the modules ``names``; None if the model cannot be asked.

    ``model`` may be on the meta device: it then computes with zeros, one layer in memory at a time.
    It is unchanged afterwards.
    """
    import torch

    zeros: dict[str, torch.Tensor] = {}
    not_linear: set[str] = set()

    def listen(name: str) -> Any:
        def add_zero(module: torch.nn.Module, inputs: Any, output: Any) -> Any:
            tensor = isinstance(output, torch.Tensor)
            if not tensor or output.shape != _linear_shape(module, inputs, output):
                not_linear.add(name)
                return output
            zero = torch.zeros((), dtype=output.dtype, device=output.device, requires_grad=True)
            return output + zeros.setdefault(name, zero)

        return add_zero

    hooks = [model.get_submodule(name).register_forward_hook(listen(name)) for name in names]
    try:
        with _as_in_training(model), _weights_in_memory(model), torch.enable_grad():
            ids = torch.tensor([_plain_tokens(model.config)], device=model.device)
            sum_of_logits = model(input_ids=ids, use_cache=False).logits.float().sum()
            asked = list(zeros.values()) if sum_of_logits.requires_grad else []
            found = torch.autograd.grad(sum_of_logits, asked, allow_unused=True) if asked else ()
    except Exception:  # code of any model, called in a way that it may not know
        return None
    finally:
        for hook in hooks:
            hook.remove()
    # Nothing was asked for where the logits depend on none of them.
    reached = {name for name, gradient in zip(zeros, found, strict=False) if gradient is not None}
    return Reach(frozenset(reached), frozenset(not_linear))


def _linear_shape(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Size:
    """The shape that a linear layer would return; the output's own for other modules."""
    import torch

    if not isinstance(module, torch.nn.Linear) or not inputs:
        return output.shape
    return torch.Size((*inputs[0].shape[:-1], module.out_features))


def _plain_tokens(config: Any) -> list[int]:
    """Token ids without a special meaning: an image's token would need an image."""
    text = config.get_text_config()
    special: set[int] = set()
    for values in (config.to_dict(), text.to_dict()):
        for name, value in values.items():
            if name.endswith(("token_id", "token_index", "token_ids")):
                special |= set(value) if isinstance(value, list) else {value}
    plain = [i for i in range(text.vocab_size) if i not in special]
    return plain[:TOKENS]


@contextmanager
def _as_in_training(model: PreTrainedModel) -> Iterator[None]:
    """Training mode, in which some models compute otherwise; random numbers stay as they are."""
    import torch

    modes = {module: module.training for module in model.modules()}
    with quiet_libraries(), torch.random.fork_rng():
        model.train()
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training


@contextmanager
def _weights_in_memory(model: PreTrainedModel) -> Iterator[None]:
    """For a model on the meta device: zeros for its weights; the large ones share one number."""
    import torch

    if model.device.type != "meta":
        yield
        return
    kept = []
    for module in model.modules():
        for places in (module._parameters, module._buffers):
            kept += [(places, name, value) for name, value in places.items() if value is not None]
    experts = model.config._experts_implementation
    # The grouped product wants ordinary strides; the plain loop over experts takes any.
    model.config._experts_implementation = "eager"
    try:
        for places, name, value in kept:
            zeros: Any = torch.zeros((), dtype=value.dtype).expand(value.shape)
            if value.numel() <= SMALL:  # some models write into their smallest weights
                zeros = zeros.clone()
            if isinstance(value, torch.nn.Parameter):
                zeros = torch.nn.Parameter(zeros, requires_grad=False)
            places[name] = zeros
        yield
    finally:
        for places, name, value in kept:
            places[name] = value
        model.config._experts_implementation = experts
