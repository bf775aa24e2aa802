"""The language part of a model that also reads images or sounds, without its towers.

Such a model is built as transformers' own class for it, so that every layer has the name that it
has in the whole checkpoint, and an adapter loads there. Parts that are models of their own (the
vision tower) are dropped before any weight is read.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

    from lorita.models.base import Base

_LEFT_OUT = "_lorita_left_out"


def reads_images(config: PretrainedConfig) -> bool:
    """Whether a model with this configuration is loaded as the language part of a larger one.

    Where transformers has a class for text alone as well, the checkpoint's ``architectures`` says
    which one it is.
    """
    auto = import_module("transformers.models.auto.modeling_auto")  # its lists need no torch
    whole = auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(config.model_type)
    text = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    if whole is None or config.get_text_config(decoder=True) is config:
        return False
    return text is None or text == whole or whole in (config.architectures or [])


def build(
    config: PretrainedConfig, *, trust_remote_code: bool = False, **options: Any
) -> PreTrainedModel:
    """A causal language model with this configuration, with whatever weights it begins with."""
    from transformers import AutoModelForCausalLM

    if reads_images(config):
        return _without_towers(_whole_class(config))._from_config(config, **options)  # type: ignore[no-any-return]
    options["trust_remote_code"] = trust_remote_code
    return AutoModelForCausalLM.from_config(config, **options)  # type: ignore[no-any-return]


def loading_class(config: PretrainedConfig) -> Any:
    """The class whose ``from_pretrained`` reads the weights of a causal language model."""
    from transformers import AutoModelForCausalLM

    return _without_towers(_whole_class(config)) if reads_images(config) else AutoModelForCausalLM


def load_towers(base: Base, config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """What ``loading_class`` leaves out, read from the base's files, without the layers of text."""
    model, _ = _without_layers(_whole_class(config)).from_pretrained(
        base.location,
        revision=base.revision,
        dtype=dtype,
        output_loading_info=True,
        weights_only=True,
    )
    return model  # type: ignore[no-any-return]


def left_out_names(model: torch.nn.Module) -> list[str]:
    """The names of modules that the whole checkpoint has and ``model`` lacks."""
    return list(getattr(model, _LEFT_OUT, ()))


def language_part_note(model: torch.nn.Module) -> tuple[str, ...]:
    """A line on what was left out; none if nothing was."""
    names = left_out_names(model)
    towers = [name for name in names if not any(name.startswith(f"{n}.") for n in names)]
    if not towers:
        return ()
    return (
        f"Only the language part of {type(model).__name__} is loaded and trained, on text: without "
        f"{', '.join(towers)}",
    )


def _whole_class(config: PretrainedConfig) -> Any:
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText._model_mapping[type(config)]


@cache
def _without_towers(whole: Any) -> Any:
    """The same class, whose models have no parts that are models of their own but the decoder."""

    def init(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        whole.__init__(self, config, *args, **kwargs)
        towers = _towers(self)
        names = [name for name, _ in self.named_modules() if _is_inside(name, towers)]
        for tower in towers:
            parent, _, last = tower.rpartition(".")
            setattr(self.get_submodule(parent), last, None)
        setattr(self, _LEFT_OUT, names)

    return _like(whole, init)


@cache
def _without_layers(whole: Any) -> Any:
    """The same class, whose decoder has no layers."""
    import torch

    def init(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        whole.__init__(self, config, *args, **kwargs)
        setattr(self, _LEFT_OUT, [])
        for module in list(self.get_decoder().modules()):
            for name, part in list(module.named_children()):
                if isinstance(part, torch.nn.ModuleList):
                    setattr(module, name, torch.nn.ModuleList())

    return _like(whole, init)


def _like(whole: Any, init: Any) -> Any:
    same = {name: getattr(whole, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(whole.__name__, (whole,), {**same, "__init__": init})


def _is_inside(name: str, towers: list[str]) -> bool:
    return any(name == tower or name.startswith(f"{tower}.") for tower in towers)


def _towers(model: Any) -> list[str]:
    """Names of the outermost parts that are models of their own, beside the language model."""
    from transformers import PreTrainedModel

    decoder = model.get_decoder()
    inside = set(decoder.modules())
    found: list[str] = []
    for name, module in model.named_modules():
        if not isinstance(module, PreTrainedModel) or _is_inside(name, found):
            continue
        if module not in inside and decoder not in set(module.modules()):
            found.append(name)
    return found
