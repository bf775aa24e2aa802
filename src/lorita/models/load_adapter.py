"""Attach saved adapters to their base model, and check that every tensor arrived as saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.engine.activated import activate
from lorita.errors import AdapterError
from lorita.models.adapter_embeddings import fit_embeddings, saved_rows
from lorita.models.adapter_files import WEIGHTS_FILE, require_files, require_finite
from lorita.models.adapter_kinds import check_kind, read_adapter_config
from lorita.models.patterns import require_quick
from lorita.storage.reading import said
from lorita.system.quiet import quiet_libraries

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel


def load_adapter(model: PreTrainedModel, folder: Path, *, is_trainable: bool = False) -> PeftModel:
    """Attach the adapter in ``folder`` to its base ``model``; every tensor must find its place.

    Embeddings that the adapter brings for added tokens resize those of ``model``. Raises
    ``AdapterError`` for a kind of adapter that lorita cannot use, and for one that lists the
    tensors that are missing, unexpected or not finite.
    """
    from peft import PeftModel

    require_files(folder)
    check_kind(folder)
    require_finite(folder)
    _require_quick_patterns(model, folder)
    fit_embeddings(model, folder)
    with _explained(folder), quiet_libraries():
        peft_model = PeftModel.from_pretrained(model, str(folder), is_trainable=is_trainable)
    _require_same_tensors(peft_model, folder)
    activate(peft_model)
    return peft_model


def load_adapters(model: PreTrainedModel | PeftModel, folders: Mapping[str, Path]) -> PeftModel:
    """Attach several adapters to one base, each under its name; each row can use a different one.

    ``model`` may have such adapters already; theirs must be other names. Raises ``AdapterError``
    for adapters that cannot share a base: those with trained biases, which are part of the base
    itself, and DoRA and aLoRA, which cannot be switched per row. The model is then as it was.
    """
    from peft import PeftModel

    problems: list[str] = []
    for name, folder in folders.items():
        require_files(folder)
        check_kind(folder)
        require_finite(folder)
        _require_quick_patterns(model, folder)
        problems += why_not_shared(name, folder)
    if problems:
        raise AdapterError(
            problems, hint="Load such an adapter on its own, or merge it into its base."
        )
    before = model
    try:
        for name, folder in folders.items():
            with _explained(folder), quiet_libraries():
                if isinstance(model, PeftModel):
                    model.load_adapter(str(folder), adapter_name=name)
                else:
                    model = PeftModel.from_pretrained(model, str(folder), adapter_name=name)
        for name, folder in folders.items():
            _require_same_tensors(model, folder, name)
    except BaseException:
        _take_off(before, list(folders))
        raise
    return model  # type: ignore[return-value]


def why_not_shared(name: str, folder: Path) -> Iterator[str]:
    """Why the adapter, under this name, cannot be one of several on a base; nothing if it can."""
    config = read_adapter_config(folder)
    if not name.isidentifier() or name == "default":
        yield f"{name!r}: not a valid adapter name (letters, digits and _)"
    if config.get("bias", "none") != "none":
        yield f"{folder}: has trained biases, which would change the base for all adapters"
    if config.get("alora_invocation_tokens"):
        yield f"{folder}: activated LoRA (aLoRA) adapters cannot be switched per row"
    if config.get("use_dora"):
        yield f"{folder}: DoRA adapters cannot be switched per row"
    elif config["peft_type"] != "LORA" or config.get("target_parameters"):
        yield f"{folder}: only LoRA on layers can be switched per row"
    if config.get("trainable_token_indices"):
        yield f"{folder}: adds tokens, for which the base has no rows"
    if saved_rows(folder) is not None:
        yield f"{folder}: has embeddings of its own, which would change the base"


def _take_off(model: PreTrainedModel | PeftModel, names: Sequence[str]) -> None:
    """Remove adapters that were put on in part, and the layers that were made for them alone."""
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    if isinstance(model, PeftModel):
        for name in names:
            if name in model.peft_config:
                model.delete_adapter(name)
        return
    for path, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            parent, _, last = path.rpartition(".")
            setattr(model.get_submodule(parent), last, layer.get_base_layer())


def _require_quick_patterns(model: PreTrainedModel, folder: Path) -> None:
    names = [name for name, _ in model.named_modules()]
    require_quick(f"{folder}: ", read_adapter_config(folder), names)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """One error for those of PEFT, torch and safetensors if the adapter does not fit."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        reason = said(error)
        if isinstance(error, KeyError) and error.args:  # PEFT looks a tensor up that it needs
            reason = f"{error.args[0]} is missing from the file"
        raise AdapterError(
            f"{folder}: the adapter does not fit this base model: {reason}"
        ) from error


def _require_same_tensors(model: PeftModel, folder: Path, adapter: str = "default") -> None:
    """Raise ``AdapterError`` unless file and model hold the same tensors, by PEFT's own mapping.

    Names in the file are often not those in the model: PEFT writes some without the adapter's name,
    and models have been renamed since.
    """
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    saved = load_file(folder / WEIGHTS_FILE)
    with _explained(folder), quiet_libraries():
        result = set_peft_model_state_dict(model, saved, adapter)
    config = model.peft_config[adapter]
    places = {name: t.data_ptr() for name, t in model.state_dict().items()}
    # One tensor may have two names, as the same tokens of tied embeddings and output.
    filled = {place for name, place in places.items() if name not in set(result.missing_keys)}
    missing = [
        name
        for name in result.missing_keys
        if _is_own(name, adapter, config) and places[name] not in filled
    ]
    extra = set(result.unexpected_keys)
    # Beside resized or tied embeddings PEFT writes copies of tensors, which it does not read.
    read = [tensor for name, tensor in saved.items() if name not in extra]
    unexpected = sorted(name for name in extra if not _is_copy(saved.get(name), read))
    problems = [f"{name} is missing from the file" for name in sorted(missing)]
    problems += [f"{name} does not exist in the model" for name in unexpected]
    if problems:
        raise AdapterError(
            [f"{folder / WEIGHTS_FILE}: {line}" for line in problems[:10]],
            hint=f"{len(problems)} tensors in all. The adapter may belong to a different model.",
        )


def _is_copy(tensor: torch.Tensor | None, others: Sequence[torch.Tensor]) -> bool:
    same = (other for other in others if tensor is not None and other.shape == tensor.shape)
    return any(other.equal(tensor) for other in same)  # type: ignore[arg-type]


def _is_own(name: str, adapter: str, config: PeftConfig) -> bool:
    """Whether a tensor of the model comes from the adapter's file."""
    biases = getattr(config, "bias", "none")
    if name.endswith("bias") and (biases == "all" or (biases != "none" and ".base_layer." in name)):
        return True
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING

    kinds = (
        PEFT_TYPE_TO_PREFIX_MAPPING[config.peft_type],
        "modules_to_save",
        "trainable_tokens_delta",
    )
    return adapter in name.split(".") and any(kind in name for kind in kinds)
