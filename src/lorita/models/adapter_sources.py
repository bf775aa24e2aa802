"""Adapters wherever they come from, as a folder in PEFT's format.

Accepted are PEFT folders (those of lorita, Unsloth, TRL, Axolotl and LLaMA-Factory, also one level
down or in checkpoints), hub ids, mlx-lm's folders and llama.cpp's GGUF adapters. Anything not in
PEFT's format is converted once, into the hub's cache folder (``HF_HOME``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from lorita.errors import AdapterError, LoritaError, ModelError
from lorita.models.adapter_conversion import MLX_WEIGHTS, convert_gguf, convert_mlx
from lorita.models.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from lorita.models.base import find_base, load_config
from lorita.models.gguf_files import GgufFile, check_gguf, open_mapped
from lorita.storage import hub
from lorita.storage.cache import kept_folder, mark_of
from lorita.storage.downloads import require_intact
from lorita.storage.names import hint, is_path
from lorita.storage.reading import one_message

_HINT = (
    f"An adapter is a folder with {CONFIG_FILE} and {WEIGHTS_FILE}, a hub id, a folder of mlx-lm, "
    "or a llama.cpp adapter (.gguf)."
)


def is_adapter(name: str | Path) -> bool:
    """Whether ``name`` is an adapter on this machine (else it may be a base model or a hub id)."""
    path = Path(name).expanduser()
    if path.is_file():
        return path.suffix == ".gguf" and _is_gguf_adapter(path)
    return path.is_dir() and not (path / "config.json").is_file() and bool(_candidates(path))


def find_adapter(name: str | Path, base: str | None = None) -> Path:
    """The PEFT folder of the adapter called ``name``: a path or a hub id.

    ``base`` is needed for a GGUF adapter, which does not record where its base model is. Raises
    ``AdapterError`` if there is no adapter, or more than one to choose from.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return _from_file(path, base)
    if not path.is_dir():
        return _from_hub(str(name))
    found = _candidates(path)
    if not found:
        raise AdapterError(f"{path}: {_what_is_there(path)}", hint=_HINT)
    checkpoints = [f for f in found if re.fullmatch(r"checkpoint-\d+", f.name)]
    others = [f for f in found if f not in checkpoints]
    if len(others) > 1:
        raise AdapterError(
            f"{path}: holds {len(others)} adapters",
            hint=f"Choose one of them: {', '.join(str(f) for f in others[:5])}.",
        )
    chosen = others[0] if others else max(checkpoints, key=lambda f: int(f.name.split("-")[1]))
    if not _is_mlx(chosen):
        return chosen
    return _kept(chosen / MLX_WEIGHTS, "mlx", lambda into: convert_mlx(chosen, into))


def _candidates(path: Path) -> list[Path]:
    """The folder itself if it holds an adapter, otherwise those one level below."""
    if (path / CONFIG_FILE).is_file():
        return [path]
    return sorted(f for f in path.iterdir() if (f / CONFIG_FILE).is_file())


def _what_is_there(path: Path) -> str:
    if (path / "config.json").is_file():
        return "holds a whole model, not an adapter"
    if (path / WEIGHTS_FILE).is_file():
        return f"has {WEIGHTS_FILE}, but {CONFIG_FILE} is missing"
    return f"this folder holds no adapter ({CONFIG_FILE})"


def _from_hub(name: str) -> Path:
    if is_path(name) or not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise AdapterError(f"{name}: no such run folder", hint=hint(name, _HINT))
    folder = hub.find_adapter(name, CONFIG_FILE)
    require_intact(name, folder, AdapterError)
    return folder


def _is_mlx(folder: Path) -> bool:
    return (folder / MLX_WEIGHTS).is_file() and not (folder / WEIGHTS_FILE).is_file()


def _kept(source: Path, extra: str, convert: Callable[[Path], None]) -> Path:
    """A converted adapter in the cache, made by ``convert`` if it is not there yet."""
    return kept_folder("adapter", f"{mark_of(source)}:{extra}:1", convert)


def _from_file(path: Path, base: str | None) -> Path:
    if path.suffix != ".gguf":
        raise AdapterError(f"{path}: a file, but not a .gguf adapter", hint=_HINT)
    file = _opened(path)
    if not _is_gguf_adapter(path):
        raise AdapterError(f"{path}: a whole model, not an adapter", hint="Pass it as --base.")
    if base is None:
        raise AdapterError(
            f"{path}: a GGUF adapter does not say where its base is",
            hint="Name the base model with --base.",
        )
    config = load_config(find_base(base))
    with one_message(f"{path}: cannot be read as a LoRA adapter", AdapterError):
        return _kept(path, base, lambda into: convert_gguf(file, config, base, into))


def _is_gguf_adapter(path: Path) -> bool:
    try:
        header = _opened(path).header
    except LoritaError:
        return False
    with one_message(f"{path}: damaged", AdapterError):
        return bool(header.get("general.type") == "adapter")


def _opened(path: Path) -> GgufFile:
    try:
        check_gguf(path)
        return open_mapped(path)
    except ModelError as error:
        raise AdapterError(error.problems, hint=error.hint) from error
