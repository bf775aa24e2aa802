"""The LoRA adapter, through PEFT: options, attaching, counting, files.

The file format is PEFT's own (``adapter_config.json`` and ``adapter_model.safetensors``), so what
is written here loads with ``PeftModel.from_pretrained`` and the other way round.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.errors import AdapterError, RunFailed
from lorita.models.targets import check_targets, linear_names
from lorita.storage.files import write_atomic
from lorita.system.quiet import quiet_libraries

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
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
)
"""The options that go to PEFT's ``LoraConfig`` under the same names."""


def lora_config(model: PreTrainedModel, options: Mapping[str, Any]) -> LoraConfig:
    """PEFT's configuration for ``model``; without targets, all linear layers."""
    from peft import LoraConfig

    given = {name: options[name] for name in LORA_OPTIONS if options.get(name) is not None}
    if float(given.get("lora_alpha", 0.5)).is_integer():
        given["lora_alpha"] = int(given["lora_alpha"])  # as PEFT writes it
    targets = given.setdefault("target_modules", "all-linear")
    check_targets(model, targets, given.get("exclude_modules"))
    if targets == "all-linear" and given.get("layers_to_transform") is not None:
        given["target_modules"] = linear_names(model)  # PEFT wants names beside the layers
    try:
        return LoraConfig(task_type="CAUSAL_LM", **given)
    except (TypeError, ValueError) as error:
        raise AdapterError(f"PEFT refuses these LoRA options: {error}") from error


def changes_base(config: LoraConfig) -> bool:
    """Whether the adapter starts by taking its first value out of the base's weights (PiSSA)."""
    start = str(config.init_lora_weights).lower()
    return start.startswith(("pissa", "olora", "corda", "loftq", "lora_ga"))


def attach(model: PreTrainedModel, config: LoraConfig, *, seed: int) -> PeftModel:
    """A PEFT model with a fresh adapter on ``model``; the same seed gives the same adapter.

    Adapter weights are float32 whatever the base's dtype. ``AdapterError`` where PEFT cannot put
    the adapter on; ``model`` is then as it was.
    """
    import torch
    from peft import get_peft_model

    torch.manual_seed(seed)  # before the adapter is made: lora_A is random
    try:
        with quiet_libraries():
            peft_model = get_peft_model(model, config)
        if not trainable_parameters(peft_model):
            raise AdapterError("these LoRA options leave nothing to train")
        return peft_model
    except (ValueError, NotImplementedError, TypeError) as error:
        _strip(model)
        raise AdapterError(f"PEFT cannot put this adapter on the model: {error}") from error
    except BaseException:
        _strip(model)
        raise


def _strip(model: PreTrainedModel) -> None:
    """Take out what PEFT has put into the model, also where it was stopped half-way."""
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
    if hasattr(model, "peft_config"):
        del model.peft_config
    model.requires_grad_(False)


def untouched(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Copies of what an adapter may train in place: the biases of ``model``, by name."""
    return {n: p.detach().clone() for n, p in model.named_parameters() if n.endswith("bias")}


def take_off(model: PeftModel, kept: Mapping[str, torch.Tensor]) -> PreTrainedModel:
    """The base under ``model`` as it was before the adapter; ``kept`` is from ``untouched``."""
    from peft.utils.other import ModulesToSaveWrapper

    base = model.get_base_model()
    whole = {
        name: module.original_module
        for name, module in base.named_modules()
        if isinstance(module, ModulesToSaveWrapper)
    }
    base = model.unload()
    for name, module in whole.items():  # PEFT leaves the trained copies in their place
        parent, _, last = name.rpartition(".")
        setattr(base.get_submodule(parent), last, module)
    for name, bias in kept.items():
        base.get_parameter(name).data.copy_(bias)
    return base.requires_grad_(False)  # type: ignore[no-any-return]


def trainable_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters that training changes, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def parameter_line(model: PeftModel) -> str:
    """The line that PEFT's ``print_trainable_parameters`` prints."""
    trainable, total = model.get_nb_trainable_parameters()
    return (
        f"trainable params: {trainable:,d} || all params: {total:,d} || "
        f"trainable%: {100 * trainable / total:.4f}"
    )


def adapter_tensors(model: PeftModel, name: str = "default") -> dict[str, torch.Tensor]:
    """The adapter's tensors under the names that PEFT gives them in a file, on the CPU."""
    from peft import get_peft_model_state_dict

    # Embeddings are saved only when they were trained: saving them "to be sure" makes a 2 MB
    # adapter weigh gigabytes, and the check asks the hub for the base's config.
    trained_whole = model.peft_config[name].modules_to_save or []
    state = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    if trained_whole:
        state = {name: tensor for name, tensor in state.items() if tensor is not None}
    return {name: t.detach().cpu().contiguous() for name, t in sorted(state.items())}


def set_adapter_tensors(model: PeftModel, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put saved tensors into the adapter; ``AdapterError`` unless all fit and none is missing."""
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, dict(tensors))
    loaded = adapter_tensors(model)
    if loaded.keys() != tensors.keys() or any(not t.equal(loaded[n]) for n, t in tensors.items()):
        raise AdapterError("the saved adapter does not fit this model")


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Write the two files of the adapter into ``folder``, each complete or not at all."""
    import torch
    from safetensors.torch import save

    tensors = adapter_tensors(model)
    broken = [name for name, t in tensors.items() if not torch.isfinite(t).all()]
    if broken:
        raise RunFailed(
            f"{len(broken)} of {len(tensors)} adapter tensors are not finite, such as {broken[0]}; "
            f"nothing was written"
        )
    write_atomic(folder / WEIGHTS_FILE, save(tensors, metadata={"format": "pt"}))
    write_atomic(folder / CONFIG_FILE, config_json(model))


def config_json(model: PeftModel) -> str:
    """PEFT's ``adapter_config.json`` for the adapter, ready for inference."""
    values = model.peft_config["default"].to_dict()
    values["inference_mode"] = True
    for name, value in values.items():
        if isinstance(value, set):
            values[name] = sorted(value)
        elif hasattr(value, "value"):
            values[name] = value.value
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def load_adapter(model: PreTrainedModel, folder: Path, *, is_trainable: bool = False) -> PeftModel:
    """Put the adapter in ``folder`` on its base; every tensor must be there and fit.

    Raises ``AdapterError`` with all tensors that are missing, left over or of another shape.
    """
    from peft import PeftModel

    _require_files(folder)
    with _explained(folder), quiet_libraries():
        peft_model = PeftModel.from_pretrained(model, str(folder), is_trainable=is_trainable)
    _require_same_tensors(peft_model, folder)
    return peft_model


def load_adapters(model: PreTrainedModel, folders: Mapping[str, Path]) -> PeftModel:
    """Put several adapters on one base, each under its name; PEFT answers a row with any of them.

    Raises ``AdapterError`` for adapters that cannot share a base: those with trained biases, which
    lie in the base itself, and DoRA, which PEFT does not switch by row.
    """
    from peft import PeftModel

    problems = []
    for name, folder in folders.items():
        _require_files(folder)
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        if not name.isidentifier() or name == "default":
            problems.append(f"{name!r}: not a name for an adapter (letters, digits and _)")
        if config.get("bias", "none") != "none":
            problems.append(f"{folder}: it has trained biases, which change the base for all")
        if config.get("use_dora"):
            problems.append(f"{folder}: DoRA adapters cannot be switched by row")
    if problems:
        raise AdapterError(problems, hint="Load such an adapter alone, or merge it into its base.")
    (first, folder), *others = folders.items()
    with _explained(folder), quiet_libraries():
        peft_model = PeftModel.from_pretrained(model, str(folder), adapter_name=first)
    for name, other in others:
        with _explained(other), quiet_libraries():
            peft_model.load_adapter(str(other), adapter_name=name)
    for name, folder in folders.items():
        _require_same_tensors(peft_model, folder, name)
    return peft_model


def _require_files(folder: Path) -> None:
    from safetensors import SafetensorError, safe_open

    if (folder / "adapter_model.bin").is_file() and not (folder / WEIGHTS_FILE).is_file():
        raise AdapterError(
            f"{folder}: adapter_model.bin is a pickle, which may run code; it is not read",
            hint="Load it with PEFT where you trust it, and save_pretrained() it again.",
        )
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise AdapterError(f"{folder}: no {name}, so this is not a LoRA adapter")
    try:
        with safe_open(folder / WEIGHTS_FILE, framework="pt"):
            pass
    except (OSError, SafetensorError) as error:
        raise AdapterError(
            f"{folder / WEIGHTS_FILE}: damaged or cut short ({error})",
            hint="Copy or download it again.",
        ) from error


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """PEFT, torch and safetensors each have their own errors for what does not fit."""
    try:
        yield
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise AdapterError(
            f"{folder}: the adapter does not fit this base model: "
            f"{reason[0] if reason else type(error).__name__}"
        ) from error


def _require_same_tensors(model: PeftModel, folder: Path, adapter: str = "default") -> None:
    from safetensors.torch import load_file

    saved = load_file(folder / WEIGHTS_FILE)
    loaded = adapter_tensors(model, adapter)
    problems = [f"{name} is missing from the file" for name in sorted(loaded.keys() - saved)]
    problems += [f"{name} has no place in the model" for name in sorted(saved.keys() - loaded)]
    problems += [
        f"{name} is not as in the file"
        for name in sorted(saved.keys() & loaded.keys())
        if not saved[name].to(loaded[name].dtype).equal(loaded[name])
    ]
    if problems:
        raise AdapterError(
            [f"{folder / WEIGHTS_FILE}: {line}" for line in problems[:10]],
            hint=f"{len(problems)} tensors in all. The adapter was made for another model?",
        )


def size_report(folder: Path) -> list[tuple[str, int]]:
    """What the adapter file is made of: (kind, bytes), largest first."""
    from safetensors import safe_open

    sizes: dict[str, int] = {}
    with safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (not a mapping)
            tensor = file.get_tensor(name)
            sizes[_kind(name)] = sizes.get(_kind(name), 0) + tensor.nbytes
    return sorted(sizes.items(), key=lambda item: -item[1])


def _kind(name: str) -> str:
    for part in ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "magnitude"):
        if part in name:
            return part
    return "biases" if name.endswith(".bias") else "whole modules"
