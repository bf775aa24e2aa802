"""What a name means: a base model, or an adapter and the base that it was trained on.

Nothing is loaded here but small files. Opening what was found is in ``load.py`` (transformers) and
``export/llamacpp/model.py``.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.data.tokens.prompt_format import PromptFormat, format_from_record
from lorita.data.tokens.tokenizer_template import own_template
from lorita.errors import AdapterError, LoritaWarning, ModelError
from lorita.models.adapter_files import CONFIG_FILE
from lorita.models.adapter_kinds import check_kind, read_adapter_config, warn_of_ignored
from lorita.models.adapter_sources import find_adapter, is_adapter
from lorita.models.base import CODE_HINT, RUNS_CODE, Base, find_base, load_tokenizer
from lorita.models.base_forms import plain_name
from lorita.storage.names import is_path, meant
from lorita.storage.reading import read_text
from lorita.storage.run_record import RunRecord, read_record

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_NAMES = "Give a run folder, a model folder, a .gguf file, a hub id, or a bundled model."


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
        """The tokenizer saved with the adapter, else the base's; ``ModelError`` if it is broken.

        A chat template that lies beside the adapter takes the place of the tokenizer's own.
        """
        if self.folder is None:
            return load_tokenizer(self.base)
        if (self.folder / "tokenizer_config.json").is_file():
            return load_tokenizer(Base(str(self.folder), str(self.folder)))
        tokenizer = load_tokenizer(self.base)
        if (template := self._template_file()) is not None:
            tokenizer.chat_template = read_text(template, AdapterError)
        return tokenizer

    def prompt_format(self, tokenizer: PreTrainedTokenizerBase) -> PromptFormat:
        """How the training rows put a prompt.

        Where there is no record, an adapter that brings a chat template is asked through it, and
        any other with plain text.
        """
        if self.record is not None:
            return format_from_record(self.record.prompt_format, tokenizer)
        if self.folder is None or not self._brings_template():
            return PromptFormat()
        template = own_template(tokenizer)
        return PromptFormat("chat", template) if template is not None else PromptFormat()

    def _template_file(self) -> Path | None:
        assert self.folder is not None
        path = self.folder / "chat_template.jinja"
        return path if path.is_file() else None

    def _brings_template(self) -> bool:
        assert self.folder is not None
        tokenizer = self.folder / "tokenizer_config.json"
        return tokenizer.is_file() or self._template_file() is not None


def resolve(
    name: str | Path, base: str | None = None, *, trust_remote_code: bool = False
) -> Resolved:
    """The adapter or the base model that ``name`` means.

    ``base`` says where an adapter's base is, if not where its training found it. Code that comes
    with a base is run only with ``trust_remote_code``, whatever the adapter's files say.
    ``UserError`` where there is neither.
    """
    if not is_adapter(name):
        try:
            alone = Resolved(find_base(str(name), trust_remote_code=trust_remote_code))
            if base is not None:
                said = f"base {base} does nothing: {name} is a base model itself"
                warnings.warn(said, LoritaWarning, stacklevel=2)
            return alone
        except ModelError as error:
            path = Path(name).expanduser()
            if is_path(str(name)) and not path.exists():
                hint = f"{meant(str(name)) or ''} {_NAMES}".strip()
                raise ModelError(f"{name}: no such run folder or model", hint=hint) from error
            # A hub repository without a config may hold an adapter; offline, the cache may.
            words = ("no config.json", "HF_HUB_OFFLINE is set", "cannot be reached")
            if path.exists() or not any(word in str(error) for word in words):
                raise
    return resolve_adapter(name, base, trust_remote_code=trust_remote_code)


def resolve_adapter(
    name: str | Path, base: str | None = None, *, trust_remote_code: bool = False
) -> Resolved:
    """As ``resolve``, for what must be an adapter: ``AdapterError`` otherwise."""
    folder = find_adapter(name, base)
    return resolve_folder(folder, base, trust_remote_code=trust_remote_code)


def resolve_folder(
    folder: Path, base: str | None = None, *, trust_remote_code: bool = False
) -> Resolved:
    """The adapter whose files are in ``folder`` itself; otherwise as ``resolve``."""
    if not (folder / CONFIG_FILE).is_file():
        if not folder.is_dir():
            raise AdapterError(f"{folder}: no such run folder", hint=meant(str(folder)))
        raise AdapterError(f"{folder}: this folder holds no adapter ({CONFIG_FILE})")
    check_kind(folder)
    warn_of_ignored(folder)
    record = read_record(folder)
    return Resolved(_find_base(folder, record, base, trust_remote_code), folder, record)


def _find_base(folder: Path, record: RunRecord | None, base: str | None, trust: bool) -> Base:
    """The base that was named, else the one of the record, else the one of PEFT's configuration.

    ``AdapterError`` that points at ``--base`` where the last two lead nowhere, and at the flag
    where the base needs its own code. That an adapter asks for it is not enough: its files are
    somebody else's.
    """
    if base is not None:
        return find_base(base, trust_remote_code=trust)
    name, revision = _named_base(folder, record)
    if record is not None and record.base.trust_remote_code and not trust:
        raise AdapterError(f"{folder}: its base {name} {RUNS_CODE}", hint=CODE_HINT)
    try:
        return find_base(name, revision=revision, trust_remote_code=trust)
    except ModelError as error:
        plain = plain_name(name)
        raise AdapterError(
            [f"{folder}: its base cannot be used: {problem}" for problem in error.problems],
            hint=f"{error.hint or ''}\nName the base model that is on this machine or on the hub: "
            f"--base {plain or 'MODEL'}".strip(),
        ) from error


def _named_base(folder: Path, record: RunRecord | None) -> tuple[str, str | None]:
    """The base that an adapter's files name, and its revision."""
    if record is not None:
        return record.base.name, record.base.revision
    values = read_adapter_config(folder)
    name = values.get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise AdapterError(
            f"{folder}: its {CONFIG_FILE} names no base model", hint="Name it: --base MODEL"
        )
    return name, values.get("revision")
