"""Attach saved adapters to their base model, and check that every tensor arrived as saved."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.errors import AdapterError
from lorita.models.adapter import adapter_tensors
from lorita.models.adapter_files import CONFIG_FILE, WEIGHTS_FILE, require_files
from lorita.system.quiet import quiet_libraries

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def load_adapter(model: PreTrainedModel, folder: Path, *, is_trainable: bool = False) -> PeftModel:
    """Attach the adapter in ``folder`` to its base ``model``; every tensor must match.

    Raises ``AdapterError`` listing the tensors that are missing, unexpected or different.
    """
    from peft import PeftModel

    require_files(folder)
    with _explained(folder), quiet_libraries():
        peft_model = PeftModel.from_pretrained(model, str(folder), is_trainable=is_trainable)
    _require_same_tensors(peft_model, folder)
    return peft_model


def load_adapters(model: PreTrainedModel, folders: Mapping[str, Path]) -> PeftModel:
    """Attach several adapters to one base, each under its name; each row can use a different one.

    Raises ``AdapterError`` for adapters that cannot share a base: those with trained biases, which
    are part of the base itself, and DoRA, which PEFT cannot switch per row.
    """
    from peft import PeftModel

    problems = []
    for name, folder in folders.items():
        require_files(folder)
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        if not name.isidentifier() or name == "default":
            problems.append(f"{name!r}: not a valid adapter name (letters, digits and _)")
        if config.get("bias", "none") != "none":
            problems.append(
                f"{folder}: has trained biases, which would change the base for all adapters"
            )
        if config.get("use_dora"):
            problems.append(f"{folder}: DoRA adapters cannot be switched per row")
    if problems:
        raise AdapterError(
            problems, hint="Load such an adapter on its own, or merge it into its base."
        )
    (first, folder), *others = folders.items()
    with _explained(folder), quiet_libraries():
        peft_model = PeftModel.from_pretrained(model, str(folder), adapter_name=first)
    for name, other in others:
        with _explained(other), quiet_libraries():
            peft_model.load_adapter(str(other), adapter_name=name)
    for name, folder in folders.items():
        _require_same_tensors(peft_model, folder, name)
    return peft_model


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """One error for those of PEFT, torch and safetensors if the adapter does not fit."""
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
    problems += [f"{name} does not exist in the model" for name in sorted(saved.keys() - loaded)]
    problems += [
        f"{name} differs from the file"
        for name in sorted(saved.keys() & loaded.keys())
        if not saved[name].to(loaded[name].dtype).equal(loaded[name])
    ]
    if problems:
        raise AdapterError(
            [f"{folder / WEIGHTS_FILE}: {line}" for line in problems[:10]],
            hint=f"{len(problems)} tensors in all. The adapter may belong to a different model.",
        )
