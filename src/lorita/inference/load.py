"""A base model with an adapter on it, or with several, loaded from run folders or PEFT folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.data.tokens.prompt_format import PromptFormat, format_from_record
from lorita.errors import AdapterError, ModelError, SettingsError
from lorita.inference.tuned_model import TunedModel
from lorita.models.adapter import CONFIG_FILE, load_adapter, load_adapters
from lorita.models.adapter_sources import find_adapter, is_adapter
from lorita.models.base import Base, check_tokenizer_fits, find_base, load_model, load_tokenizer
from lorita.models.fingerprint import fingerprint, fingerprint_problems
from lorita.storage.run_record import read_record

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


def load(
    run: str | Path,
    *,
    base: str | None = None,
    dtype: str = "auto",
    adapters: Mapping[str, str | Path] | None = None,
) -> TunedModel:
    """The tuned model of a run folder (or of any LoRA adapter), ready for inference.

    ``run`` is anything that ``adapter_sources`` understands: folders, hub ids, GGUF adapters.
    ``base`` says where the base model is, if not where the run found it. ``dtype`` is
    ``float32``, ``bfloat16``, ``float16`` or ``auto`` (what suits this machine).

    With ``adapters``, ``run`` is a base model instead, and each adapter is put on it under its
    name: ``load("smollm2-135m", adapters={"a": "runs/a", "b": "runs/b"})``.
    """
    if adapters is not None:
        if base is not None:
            raise SettingsError("with adapters, the first argument is the base")
        return _load_several(str(run), adapters, torch_dtype(dtype))
    folder = find_adapter(run, base)
    found = find_run_base(folder, base)
    model = load_model(found, torch_dtype(dtype))
    check_same_base(folder, found, model)
    tokenizer = run_tokenizer(folder, found)
    check_tokenizer_fits(found, tokenizer, model)
    tuned = load_adapter(model, folder).eval()
    return TunedModel(tuned, tokenizer, found, run_prompt_format(folder, tokenizer))


def _load_several(base: str, adapters: Mapping[str, str | Path], dtype: torch.dtype) -> TunedModel:
    if not adapters:
        raise SettingsError("adapters is empty: name at least one, {'name': 'runs/NAME'}")
    folders = {name: find_adapter(folder, base) for name, folder in adapters.items()}
    found = find_base(base)
    tokenizer = load_tokenizer(found)
    formats = {}
    for name, folder in folders.items():
        own = run_tokenizer(folder, found)
        if own.get_vocab() != tokenizer.get_vocab():
            raise AdapterError(f"{folder}: its tokenizer is not that of {base}")
        formats[name] = run_prompt_format(folder, own)
    model = load_model(found, dtype)
    check_tokenizer_fits(found, tokenizer, model)
    tuned = load_adapters(model, folders).eval()
    return TunedModel(tuned, tokenizer, found, adapters=formats)


def load_any(name: str, *, base: str | None = None, dtype: str = "auto") -> TunedModel:
    """A run folder with its adapter, or a base model as it is."""
    folder, found = find_any(name, base)
    if folder is not None:
        return load(folder, base=base, dtype=dtype)
    model = load_model(found, torch_dtype(dtype))
    tokenizer = load_tokenizer(found)
    check_tokenizer_fits(found, tokenizer, model)
    return TunedModel(model, tokenizer, found)


def find_any(name: str, base: str | None = None) -> tuple[Path | None, Base]:
    """The folder of the adapter that ``name`` means (None for a base model), and the base."""
    if not is_adapter(name):
        try:
            return None, find_base(name)
        except ModelError as error:
            # A hub repository without a config may hold an adapter; offline, the cache may.
            words = ("no config.json", "HF_HUB_OFFLINE is set")
            if Path(name).exists() or not any(word in str(error) for word in words):
                raise
    folder = find_adapter(name, base)
    return folder, find_run_base(folder, base)


def find_run_base(folder: Path, base: str | None = None) -> Base:
    """The base that the adapter in ``folder`` was trained on."""
    if not (folder / CONFIG_FILE).is_file():
        what = "this folder holds no adapter" if folder.is_dir() else "there is no such run folder"
        raise AdapterError(f"{folder}: {what} ({CONFIG_FILE})")
    if base is not None:
        return find_base(base)
    record = read_record(folder)
    if record is not None:
        return find_base(
            record.base["name"],
            revision=record.base["revision"],
            trust_remote_code=record.base["trust_remote_code"],
        )
    try:
        values = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterError(f"{folder / CONFIG_FILE}: cannot be read ({error})") from None
    name = values.get("base_model_name_or_path")
    if not name:
        raise AdapterError(f"{folder}: its {CONFIG_FILE} names no base model; give one (base=…)")
    if name.endswith("bnb-4bit"):
        raise AdapterError(
            f"{folder}: its base {name} is quantised for GPUs (bitsandbytes)",
            hint=f"Name the plain one: --base {name.replace('-unsloth', '').split('-bnb-4bit')[0]}",
        )
    return find_base(name, revision=values.get("revision"))


def check_same_base(folder: Path, base: Base, model: torch.nn.Module) -> None:
    """``AdapterError`` if the run was trained on another base, by what its record says of it."""
    record = read_record(folder)
    if record is not None and record.base.get("fingerprint"):
        problems = fingerprint_problems(record.base["fingerprint"], fingerprint(model))
        if problems:
            raise AdapterError(
                [f"{folder} was trained on another base than {base.name}: {p}" for p in problems],
                hint="Give the one that it was trained on (--base).",
            )


def run_tokenizer(folder: Path, base: Base) -> PreTrainedTokenizerBase:
    """The tokenizer saved with the adapter, else the base's."""
    if (folder / "tokenizer_config.json").is_file():
        return load_tokenizer(Base(str(folder), str(folder)))
    return load_tokenizer(base)


def run_prompt_format(folder: Path, tokenizer: PreTrainedTokenizerBase) -> PromptFormat:
    """How the run put its prompts; as they are for a folder that lorita did not write."""
    record = read_record(folder)
    return format_from_record(record.prompt_format, tokenizer) if record else PromptFormat()


def torch_dtype(name: str) -> torch.dtype:
    """``auto`` is what suits this machine; the names are torch's."""
    import torch

    if name == "auto":
        from lorita.engine.numerics import choose_numerics

        return choose_numerics().dtype
    dtype = getattr(torch, name, None)
    if name not in ("float32", "bfloat16", "float16"):
        raise SettingsError(f"dtype = {name!r}: should be auto, float32, bfloat16 or float16")
    return dtype  # type: ignore[return-value]
