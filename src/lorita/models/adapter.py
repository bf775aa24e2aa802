"""The LoRA adapter, through PEFT: options, attaching, counting, saving.

The file format is PEFT's own (``adapter_config.json`` and ``adapter_model.safetensors``), so
adapters saved here load with ``PeftModel.from_pretrained``. ``load_adapter`` reads them back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.engine.activated import activate, deactivate
from lorita.errors import AdapterError, RunFailed
from lorita.models.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from lorita.models.choose_targets import choose_targets
from lorita.models.new_rows import require_free, trained_rows
from lorita.storage.files import write_atomic
from lorita.system.quiet import quiet_libraries

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

LORA_OPTIONS = (
    "r",
    "lora_alpha",
    "lora_dropout",
    "bias",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
    "use_dora",
    "init_lora_weights",
    "alora_invocation_tokens",
)
"""The options passed to PEFT's ``LoraConfig`` under the same names."""


def plan_adapter(
    model: PreTrainedModel, options: Mapping[str, Any], new_tokens: Sequence[int] = ()
) -> tuple[LoraConfig, tuple[str, ...]]:
    """PEFT's configuration for ``model``, and lines on what it leaves out.

    By default it targets all linear layers that can learn from text.

    ``options`` are LoRA options only (``LORA_OPTIONS``); None leaves one at PEFT's default. The
    embeddings of ``new_tokens`` are trained as well. Raises ``TypeError`` for any other key, and
    ``AdapterError`` for targets that the model does not have and for values that PEFT rejects.
    """
    unknown = [name for name in options if name not in LORA_OPTIONS]
    if unknown:
        raise TypeError(f"not LoRA options: {', '.join(unknown)}; use {', '.join(LORA_OPTIONS)}")
    # In the order of LORA_OPTIONS, whatever the caller's.
    given = {name: options[name] for name in LORA_OPTIONS if options.get(name) is not None}
    if isinstance(given.get("alora_invocation_tokens"), str):
        raise TypeError("alora_invocation_tokens: the tokens, not their text")
    if float(given.get("lora_alpha", 0.5)).is_integer():
        given["lora_alpha"] = int(given["lora_alpha"])  # as PEFT writes it
    if new_tokens:
        given["trainable_token_indices"] = trained_rows(model, new_tokens)
    config, notes = choose_targets(model, {"target_modules": "all-linear", **given})
    if new_tokens:
        require_free(model, config)
    return config, notes


def lora_config(model: PreTrainedModel, options: Mapping[str, Any]) -> LoraConfig:
    """The configuration of ``plan_adapter`` alone."""
    return plan_adapter(model, options)[0]


def bias_note(model: PeftModel) -> tuple[str, ...]:
    """A line if biases are to be trained and there are none to train."""
    kind = model.peft_config["default"].bias
    if kind == "none" or any(name.endswith("bias") for name in trainable_parameters(model)):
        return ()
    where = "this model" if kind == "all" else "none of the adapted layers"
    verb = "has no bias" if kind == "all" else "has one"
    return (f"bias {kind} does nothing: {where} {verb}",)


def target_line(config: LoraConfig) -> str:
    """What an adapter that has been attached is on: names of modules, then of parameters."""
    modules = config.target_modules or []
    names = [modules] if isinstance(modules, str) else sorted(modules)
    return ", ".join([*names, *sorted(config.target_parameters or [])])


def changes_base(config: LoraConfig) -> bool:
    """Whether the initialisation changes the base's weights, as PiSSA, OLoRA and others do."""
    start = str(getattr(config, "init_lora_weights", "")).lower()
    return start.startswith(("pissa", "olora", "corda", "loftq", "lora_ga"))


def attach(model: PreTrainedModel, config: LoraConfig, *, seed: int) -> PeftModel:
    """A PEFT model with a new adapter on ``model``; the same seed produces the same adapter.

    Adapter weights are float32 whatever the base's dtype. Raises ``AdapterError`` if PEFT cannot
    attach the adapter or if it leaves nothing to train; ``model`` is then unchanged.
    """
    import torch
    from peft import get_peft_model

    torch.manual_seed(seed)  # before the adapter is created: lora_A is random
    try:
        with quiet_libraries():
            peft_model = get_peft_model(model, config)
        _check_invocation(peft_model)
        activate(peft_model)
        if not trainable_parameters(peft_model):
            raise AdapterError("these LoRA options leave nothing to train")
        _check_can_be_loaded(peft_model)
        return peft_model
    except (ValueError, NotImplementedError, TypeError) as error:
        _strip(model)
        raise AdapterError(f"PEFT cannot attach this adapter to the model: {error}") from error
    except BaseException:
        _strip(model)
        raise


def _check_can_be_loaded(model: PeftModel) -> None:
    """``AdapterError`` if PEFT would not find some layers of this adapter in the file it writes.

    It renames layers for some model types while loading. Told before training, not after it.
    """
    from peft import set_peft_model_state_dict

    without_weights = any(parameter.is_meta for parameter in model.parameters())
    if without_weights or model.peft_config["default"].modules_to_save:
        return  # a plan; or whole matrices: what does not fit is told when they are read
    with quiet_libraries():
        lost = set_peft_model_state_dict(model, adapter_tensors(model)).unexpected_keys
    if lost:
        layers = dict.fromkeys(name.rpartition(".lora_")[0].rpartition(".")[2] for name in lost)
        raise AdapterError(
            f"PEFT cannot load an adapter for this model type again: {len(lost)} of its tensors "
            f"would be lost, such as {lost[0]}",
            hint="Name the layers to adapt, without these, with --target-modules. Not loaded: "
            + ", ".join(layer for layer in layers if layer != "weight"),
        )


def _check_invocation(model: PeftModel) -> None:
    """``AdapterError`` if an activated LoRA is on a layer that knows no places of tokens."""
    from peft.tuners.lora import LoraLayer

    if not getattr(model.peft_config["default"], "alora_invocation_tokens", None):
        return
    base = model.get_base_model()
    head = base.get_output_embeddings()
    for name, module in base.named_modules():
        if isinstance(module, LoraLayer) and (module is head or module.lora_embedding_A):
            raise AdapterError(
                f"an activated LoRA cannot be on {name}: it can be on layers between the "
                "embeddings and the output head",
                hint="Leave it out of --target-modules.",
            )


def _strip(model: PreTrainedModel) -> None:
    """Remove what PEFT has put into the model, even if it was stopped half-way."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import ModulesToSaveWrapper

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            own = module.get_base_layer()
        elif isinstance(module, ModulesToSaveWrapper):
            own = module.original_module
        else:
            continue
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, own)
    deactivate(model)
    if hasattr(model, "peft_config"):
        del model.peft_config
    model.requires_grad_(False)


def untouched(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Copies of what an adapter may train in place, namely the biases of ``model``, by name.

    ``take_off`` puts them back.
    """
    return {n: p.detach().clone() for n, p in model.named_parameters() if n.endswith("bias")}


def take_off(model: PeftModel, kept: Mapping[str, torch.Tensor]) -> PreTrainedModel:
    """Remove the adapter and return the base exactly as before; ``kept`` is from ``untouched``."""
    from peft.utils.other import ModulesToSaveWrapper

    base = model.get_base_model()
    whole = {
        name: module.original_module
        for name, module in base.named_modules()
        if isinstance(module, ModulesToSaveWrapper)
    }
    deactivate(base)
    base = model.unload()
    for name, module in whole.items():  # PEFT leaves the trained copies in place
        parent, _, last = name.rpartition(".")
        setattr(base.get_submodule(parent), last, module)
    for name, bias in kept.items():
        base.get_parameter(name).data.copy_(bias)
    return base.requires_grad_(False)  # type: ignore[no-any-return]


def trainable_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters that training changes (``requires_grad``), by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def parameter_line(model: PeftModel, fixed: int = 0) -> str:
    """The line printed by PEFT's ``print_trainable_parameters``.

    ``fixed`` of the numbers that it counts are not trained.
    """
    trainable, total = model.get_nb_trainable_parameters()
    trainable -= fixed
    return (
        f"trainable params: {trainable:,d} || all params: {total:,d} || "
        f"trainable%: {100 * trainable / total:.4f}"
    )


def adapter_tensors(model: PeftModel, name: str = "default") -> dict[str, torch.Tensor]:
    """The adapter's tensors on the CPU, under the names PEFT uses in its files.

    ``name`` is the adapter's name within ``model``.
    """
    from peft import get_peft_model_state_dict

    # Embeddings are saved only if they were trained: saving them "to be sure" would turn a 2 MB
    # adapter into gigabytes, and PEFT's check asks the hub for the base's config.
    trained_whole = model.peft_config[name].modules_to_save or []
    state = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    if trained_whole:
        state = {name: tensor for name, tensor in state.items() if tensor is not None}
    return {name: t.detach().cpu().contiguous() for name, t in sorted(state.items())}


def set_adapter_tensors(model: PeftModel, tensors: Mapping[str, torch.Tensor]) -> None:
    """Load saved tensors into the adapter; ``AdapterError`` if one is missing or does not fit."""
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, dict(tensors))
    loaded = adapter_tensors(model)
    if loaded.keys() != tensors.keys() or any(not t.equal(loaded[n]) for n, t in tensors.items()):
        raise AdapterError("the saved adapter does not fit this model")


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Write the adapter's two files into ``folder``, each complete or not at all.

    Raises ``RunFailed``, without writing anything, if a tensor has values that are not finite.
    """
    import torch
    from safetensors.torch import save

    tensors = adapter_tensors(model)
    broken = [name for name, t in tensors.items() if not torch.isfinite(t).all()]
    if broken:
        raise RunFailed(
            f"{len(broken)} of {len(tensors)} adapter tensors are not finite, for example "
            f"{broken[0]}; nothing was written"
        )
    write_atomic(folder / WEIGHTS_FILE, save(tensors, metadata={"format": "pt"}))
    write_atomic(folder / CONFIG_FILE, config_json(model))


def config_json(model: PeftModel) -> str:
    """The content of PEFT's ``adapter_config.json`` for the adapter, set to inference mode."""
    values = model.peft_config["default"].to_dict()
    values["inference_mode"] = True
    for name, value in values.items():
        if isinstance(value, set):
            values[name] = sorted(value)
        elif hasattr(value, "value"):
            values[name] = value.value
    return json.dumps(values, indent=2, sort_keys=True) + "\n"
