"""A base model with an adapter on it, loaded from a run folder or any PEFT folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.adapter import CONFIG_FILE, load_adapter
from lorita.base import Base, check_tokenizer_fits, find_base, load_model, load_tokenizer
from lorita.comparison import Answer, Comparison
from lorita.data.prompting import PromptFormat, format_from_record
from lorita.errors import AdapterError, SettingsError
from lorita.generation import GenerationOptions, generate
from lorita.rundir import read_record

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass
class TunedModel:
    """A model ready to use: ``model`` is PEFT's, ``tokenizer`` is the one it was trained with.

    ``prompt_format`` is how its training rows put a prompt.
    """

    model: torch.nn.Module
    tokenizer: PreTrainedTokenizerBase
    base: Base
    prompt_format: PromptFormat = field(default_factory=PromptFormat)

    def generate(self, prompt: str, **options: Any) -> str:
        """What the model adds to ``prompt``; options as in ``GenerationOptions``.

        A model that was trained on chats is asked through their template.
        """
        how = generation_options(options)
        return generate(self.model, self.tokenizer, [prompt], how, self.prompt_format)[0]


def generation_options(options: dict[str, Any]) -> GenerationOptions:
    """Options by name; ``SettingsError`` for a name that does not exist."""
    unknown = sorted(options.keys() - GenerationOptions.__dataclass_fields__.keys())
    if unknown:
        known = ", ".join(GenerationOptions.__dataclass_fields__)
        raise SettingsError(
            [f"unknown option {name!r}" for name in unknown], hint=f"There are: {known}."
        )
    return GenerationOptions(**options)


def load(run: str | Path, *, base: str | None = None, dtype: str = "auto") -> TunedModel:
    """The tuned model of a run folder (or of any PEFT LoRA folder), ready for inference.

    ``base`` says where the base model is, if not where the run found it. ``dtype`` is
    ``float32``, ``bfloat16``, ``float16`` or ``auto`` (what suits this machine).
    """
    folder = Path(run).expanduser()
    found = find_run_base(folder, base)
    model = load_model(found, torch_dtype(dtype))
    tokenizer = _tokenizer(folder, found)
    check_tokenizer_fits(found, tokenizer, model)
    tuned = load_adapter(model, folder).eval()
    return TunedModel(tuned, tokenizer, found, _prompt_format(folder, tokenizer))


def load_any(name: str, *, base: str | None = None, dtype: str = "auto") -> TunedModel:
    """A run folder with its adapter, or a base model as it is."""
    if (Path(name).expanduser() / CONFIG_FILE).is_file():
        return load(name, base=base, dtype=dtype)
    found = find_base(name)
    model = load_model(found, torch_dtype(dtype))
    tokenizer = load_tokenizer(found)
    check_tokenizer_fits(found, tokenizer, model)
    return TunedModel(model, tokenizer, found)


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
    values = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    name = values.get("base_model_name_or_path")
    if not name:
        raise AdapterError(f"{folder}: its {CONFIG_FILE} names no base model; give one (base=…)")
    return find_base(name, revision=values.get("revision"))


def _tokenizer(folder: Path, base: Base) -> PreTrainedTokenizerBase:
    """The tokenizer saved with the adapter, else the base's."""
    if (folder / "tokenizer_config.json").is_file():
        return load_tokenizer(Base(str(folder), str(folder)))
    return load_tokenizer(base)


def _prompt_format(folder: Path, tokenizer: PreTrainedTokenizerBase) -> PromptFormat:
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


def compare_prompts(
    run: Path,
    prompts: list[str],
    options: GenerationOptions,
    *,
    base: str | None = None,
    dtype: str = "auto",
) -> Comparison:
    """Both models' answers to new prompts; the base answers before the adapter is put on."""
    folder = run.expanduser()
    found = find_run_base(folder, base)
    tokenizer = _tokenizer(folder, found)
    model = load_model(found, torch_dtype(dtype))
    asked = _prompt_format(folder, tokenizer)
    before = generate(model, tokenizer, prompts, options, asked)
    after = generate(load_adapter(model, folder).eval(), tokenizer, prompts, options, asked)
    answers = tuple(Answer(*triple) for triple in zip(prompts, before, after, strict=True))
    return Comparison(found.name, answers, None)
