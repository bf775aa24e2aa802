"""The tensors of the merged model, one at a time, merged in float32.

PEFT itself does the merging, layer by layer, on a float32 copy of the layer's weights. DoRA,
embeddings, experts and transposed layers therefore come out as PEFT computes them. The model that
is passed in is left unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorita.errors import AdapterError

if TYPE_CHECKING:
    import torch
    from peft import PeftModel


def active_adapter(model: Any) -> str:
    """The name of the active adapter of a PEFT model or of one of its layers."""
    name: str = model.active_adapters[0]
    return name


@dataclass(frozen=True)
class Weight:
    """One tensor of the merged model; ``read`` computes it."""

    name: str
    shape: tuple[int, ...]
    changed: bool
    """Whether the adapter changes it."""
    _path: tuple[torch.nn.Module, str]

    def read(self) -> torch.Tensor:
        """The tensor: in float32 if an adapter is merged into it, else as in the base."""
        from lorita.engine.kernels.products import ordinary

        module, leaf = self._path
        if hasattr(module, "base_layer"):
            return _merged(module, leaf)
        tensor: torch.Tensor = module.state_dict(keep_vars=True)[leaf].detach()
        return ordinary(tensor)


def weights(model: PeftModel) -> Iterator[Weight]:
    """The tensors of the merged model, under their names in the base.

    Tied tensors come once, unless the adapter changes only one of them. If the adapter trains
    biases, every bias counts as changed, because PEFT has written them into the base.
    """
    seen: dict[int, str] = {}
    for name, module, leaf, changed in _places(model):
        tensor = _plain(module, leaf)
        key = tensor.data_ptr()
        if not changed and key in seen:
            continue
        if not changed:
            seen[key] = name
        yield Weight(name, tuple(tensor.shape), changed, (module, leaf))


def is_tied(model: PeftModel) -> bool:
    """Whether output and embeddings are one matrix, both before and after merging."""
    base = model.get_base_model()
    output = base.get_output_embeddings()
    if output is None or not getattr(base.config, "tie_word_embeddings", False):
        return False
    embeddings = base.get_input_embeddings()
    if _follows(output):
        return True
    return not any(_is_wrapped(module) for module in (output, embeddings))


def _follows(module: Any) -> bool:
    """Whether single tokens are trained in a layer through the layer that it is tied to."""
    adapter = getattr(module, "token_adapter", None)
    return adapter is not None and adapter.tied_adapter is not None


def _is_wrapped(module: Any) -> bool:
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    return isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper))


def _trains_biases(model: PeftModel) -> bool:
    config = model.peft_config[active_adapter(model)]
    own: str = getattr(config, "bias", "none")
    return own != "none" or bool(getattr(config, "lora_bias", False))


def _places(model: PeftModel) -> Iterator[tuple[str, torch.nn.Module, str, bool]]:
    """(name in the base, module, leaf, adapted) of every tensor, seen through PEFT's wrappers.

    Raises ``AdapterError`` for wrappers that have no merge.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import (
        AuxiliaryTrainingWrapper,
        ModulesToSaveWrapper,
        TrainableTokensWrapper,
    )

    adapter, biases = active_adapter(model), _trains_biases(model)
    if getattr(model.peft_config[adapter], "alora_invocation_tokens", None):
        raise AdapterError("an activated LoRA (aLoRA) cannot be merged")

    def walk(module: Any, prefix: str, whole: bool) -> Iterator[Any]:
        if isinstance(module, ModulesToSaveWrapper):
            yield from walk(module.modules_to_save[adapter], prefix, True)
            return
        if isinstance(module, TrainableTokensWrapper):
            if _follows(module):
                return
            module = module.token_adapter
        if isinstance(module, BaseTunerLayer):
            changed = _changed(module, adapter, biases)
            for leaf in module.get_base_layer().state_dict():
                yield f"{prefix}{leaf}", module, leaf, leaf in changed
            return
        if isinstance(module, AuxiliaryTrainingWrapper):
            raise AdapterError(
                f"{prefix.rstrip('.')}: a {type(module).__name__} cannot be merged here",
                hint="Try PEFT's merge_and_unload().",
            )
        own = {*dict(module.named_parameters(recurse=False)), *_saved_buffers(module)}
        for leaf in own:
            yield f"{prefix}{leaf}", module, leaf, whole or (biases and leaf == "bias")
        for child, inner in module.named_children():
            yield from walk(inner, f"{prefix}{child}.", whole)

    yield from walk(model.get_base_model(), "", False)


def _wrappers(module: Any) -> Iterator[Any]:
    """A layer of PEFT's, and those inside it: each parameter of the experts has one of its own."""
    while hasattr(module, "base_layer"):
        yield module
        module = module.base_layer


def _changed(module: Any, adapter: str, biases: bool) -> set[str]:
    """The tensors of an adapted layer that ``adapter`` changes."""
    from peft.tuners.lora import LoraLayer

    leaves = set()
    for wrapper in _wrappers(module):
        if adapter in wrapper._all_available_adapter_names():
            leaves.add(getattr(wrapper, "parameter_name", "weight"))
            if biases or not isinstance(wrapper, LoraLayer):
                leaves.add("bias")  # IA3 scales it, too
    return leaves


def _saved_buffers(module: torch.nn.Module) -> list[str]:
    left_out = module._non_persistent_buffers_set
    return [name for name, _ in module.named_buffers(recurse=False) if name not in left_out]


def _plain(module: Any, leaf: str) -> torch.Tensor:
    holder = module.get_base_layer() if hasattr(module, "base_layer") else module
    tensor: torch.Tensor = holder.state_dict(keep_vars=True)[leaf]
    return tensor


def _merged(module: Any, leaf: str) -> torch.Tensor:
    """A tensor of a LoRA layer with the adapter merged, in float32; the layer stays unchanged."""
    import torch

    from lorita.engine.kernels.products import ordinary

    base = module.get_base_layer()
    kept = dict(base.named_parameters(recurse=False))
    try:
        for name, own in kept.items():
            copy = ordinary(own.detach().float()).clone()
            base.register_parameter(name, torch.nn.Parameter(copy, requires_grad=False))
        with torch.no_grad():
            for wrapper in _wrappers(module):
                wrapper.merge(adapter_names=[active_adapter(wrapper)])
        return base.get_parameter(leaf).data
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise AdapterError(
            f"PEFT cannot merge this adapter: {str(error).strip().splitlines()[0]}",
            hint="It can be used unmerged: lorita generate, lorita chat.",
        ) from error
    finally:
        for wrapper in _wrappers(module):
            wrapper.merged_adapters.clear()
        for name, own in kept.items():
            base.register_parameter(name, own)
