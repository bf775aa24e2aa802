"""What a name means: a base model, or an adapter and the base that it was trained on.

Nothing is loaded here but small files. Opening what was found is in ``load.py`` (transformers) and
``export/llamacpp/model.py``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.data.tokens.prompt_format import PromptFormat, format_from_record
from lorita.errors import AdapterError, ModelError
from lorita.models.adapter_files import CONFIG_FILE
from lorita.models.adapter_sources import find_adapter, is_adapter
from lorita.models.base import Base, find_base, load_tokenizer
from lorita.storage.run_record import RunRecord, read_record

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Resolved:
    """A base model, and what lies on it: the adapter in ``folder``, or nothing (None).

    ``record`` is what lorita wrote beside the adapter; None for an adapter of another tool.
    """

    base: Base
    folder: Path | None = None
    record: RunRecord | None = None

    @property
    def adapter(self) -> Path:
        """The adapter's folder; ``AdapterError`` where this is a base model alone."""
        if self.folder is None:
            raise AdapterError(f"{self.base.name}: this is a base model, without an adapter")
        return self.folder

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer saved with the adapter, else the base's; ``ModelError`` if it is broken."""
        if self.folder is not None and (self.folder / "tokenizer_config.json").is_file():
            return load_tokenizer(Base(str(self.folder), str(self.folder)))
        return load_tokenizer(self.base)

    def prompt_format(self, tokenizer: PreTrainedTokenizerBase) -> PromptFormat:
        """How the training rows put a prompt; as plain text where there is no record."""
        if self.record is None:
            return PromptFormat()
        return format_from_record(self.record.prompt_format, tokenizer)


def resolve(name: str | Path, base: str | None = None) -> Resolved:
    """The adapter or the base model that ``name`` means.

    ``base`` says where an adapter's base is, if not where its training found it. ``UserError``
    where there is neither.
    """
    if not is_adapter(name):
        try:
            return Resolved(find_base(str(name)))
        except ModelError as error:
            # A hub repository without a config may hold an adapter; offline, the cache may.
            words = ("no config.json", "HF_HUB_OFFLINE is set")
            if Path(name).exists() or not any(word in str(error) for word in words):
                raise
    return resolve_adapter(name, base)


def resolve_adapter(name: str | Path, base: str | None = None) -> Resolved:
    """As ``resolve``, for what must be an adapter: ``AdapterError`` otherwise."""
    return resolve_folder(find_adapter(name, base), base)


def resolve_folder(folder: Path, base: str | None = None) -> Resolved:
    """The adapter whose files are in ``folder`` itself."""
    if not (folder / CONFIG_FILE).is_file():
        what = "this folder holds no adapter" if folder.is_dir() else "there is no such run folder"
        raise AdapterError(f"{folder}: {what} ({CONFIG_FILE})")
    record = read_record(folder)
    return Resolved(_find_base(folder, record, base), folder, record)


def _find_base(folder: Path, record: RunRecord | None, base: str | None) -> Base:
    """The base that was named, else the one of the record, else the one of PEFT's configuration."""
    if base is not None:
        return find_base(base)
    if record is not None:
        known = record.base
        return find_base(
            known.name, revision=known.revision, trust_remote_code=known.trust_remote_code
        )
    try:
        values = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterError(f"{folder / CONFIG_FILE}: cannot be read ({error})") from None
    name = values.get("base_model_name_or_path")
    if not name:
        raise AdapterError(f"{folder}: its {CONFIG_FILE} names no base model; give one (base=…)")
    if name.endswith("bnb-4bit"):
        plain = name.replace("-unsloth", "").split("-bnb-4bit")[0]
        raise AdapterError(
            f"{folder}: its base {name} is quantised for GPUs (bitsandbytes)",
            hint=f"Name the original one: --base {plain}",
        )
    return find_base(name, revision=values.get("revision"))
