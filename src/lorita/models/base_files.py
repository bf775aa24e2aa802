"""Whether the weights of a model folder are all there, seen without reading them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from pydantic import BaseModel, ConfigDict

from lorita.errors import ModelError
from lorita.models.base_forms import describe_folder
from lorita.storage.reading import parse_json, plain_size, read_object, said

LFS_MARK = b"version https://git-lfs"
LONGEST_HEADER = 100_000_000
"""Bytes of the header of a safetensors file, as in the library itself."""
_AGAIN = "Download it again."


class IndexFile(BaseModel):
    """``model.safetensors.index.json``: which file holds which tensor."""

    model_config = ConfigDict(extra="allow")

    weight_map: dict[str, str]


def check_weights(name: str, folder: Path) -> None:
    """Raise ``ModelError`` if the weights in ``folder`` are incomplete or in another format.

    A folder without any is a model all the same: its sizes can be planned.
    """
    files = _all_files(folder)
    for path in files:
        plain_size(path, ModelError, hint=_AGAIN)
    pointers = [path.name for path in files if _is_pointer(path)]
    if pointers:
        raise ModelError(
            f"{name}: {pointers[0]} is not the file itself but git-LFS's pointer to it"
            + (f", as are {len(pointers) - 1} others" if len(pointers) > 1 else ""),
            hint="In the folder, run: git lfs install && git lfs pull",
        )
    if not _has_weights(folder) and (other := describe_folder(folder)) is not None:
        raise ModelError(
            f"{name}: {other}; it cannot be trained",
            hint="Use the model in Hugging Face format: config.json and .safetensors files.",
        )
    for kind in ("safetensors", "bin"):
        for index in sorted(folder.glob(f"*.{kind}.index.json")):
            _check_shards(name, folder, index)
    for path in sorted(folder.glob("*.safetensors")):
        problem = damage(path)
        if problem is not None:
            raise ModelError(f"{name}: {path.name} {problem}", hint=_AGAIN)


def require_weights(name: str, folder: Path) -> None:
    """Raise ``ModelError`` if ``folder`` holds no weights at all."""
    if _has_weights(folder):
        return
    files = sorted(folder.glob("*.gguf"))
    raise ModelError(
        f"{name}: the weights cannot be loaded: there are none (.safetensors) in the folder",
        hint=f"It holds GGUF files; name one of them, such as {files[0]}."
        if files
        else "A download may have been interrupted, or only the tokenizer was copied.",
    )


def _has_weights(folder: Path) -> bool:
    weights = [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]
    return any(not path.name.startswith("consolidated") for path in weights)


def _check_shards(name: str, folder: Path, index: Path) -> None:
    values = read_object(index, IndexFile, ModelError, hint=_AGAIN)
    files = sorted(set(values["weight_map"].values()))
    outside = [file for file in files if not _is_inside(file)]
    if outside:
        raise ModelError(
            f"{name}: {index.name} names a file outside the model's folder ({outside[0]!r}), which "
            "is not read",
            hint="Do not use this model: no program that saves models writes such a name.",
        )
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise ModelError(
            f"{name}: {len(missing)} of {len(files)} weight files are missing "
            f"(such as {missing[0]})",
            hint="The download is incomplete; continue it. " + _AGAIN,
        )


def _is_inside(file: object) -> bool:
    """Whether a name in an index is that of a file in the model's own folder, or below it."""
    if not isinstance(file, str) or not file or "\0" in file:
        return False
    places = (PurePosixPath(file), PureWindowsPath(file))
    return not any(place.is_absolute() or place.drive or ".." in place.parts for place in places)


def damage(path: Path) -> str | None:
    """What is wrong with a safetensors file, seen from its header; None if nothing is.

    Format: https://github.com/huggingface/safetensors#format
    """
    from safetensors import safe_open

    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > LONGEST_HEADER:
                return (
                    f"is no safetensors file: it claims a header of {length:,} bytes, but the "
                    f"format allows {LONGEST_HEADER:,}"
                )
            if length > size:
                return f"is truncated or no safetensors file ({size:,} bytes)"
            header: dict[str, Any] = parse_json(file.read(length).decode())
        ends = [v["data_offsets"][1] for name, v in header.items() if name != "__metadata__"]
        needs = 8 + length + max(ends, default=0)
        if size < needs:
            return f"is truncated: {size:,} of {needs:,} bytes"
        with safe_open(path, framework="np"):  # checks types, shapes and places of all tensors
            return None
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    except Exception as error:  # anything may be in there, and be missing
        return f"is damaged or no safetensors file ({said(error)})"


def _all_files(folder: Path) -> list[Path]:
    kinds = ("*.safetensors", "*.bin", "tokenizer.json", "*.model")
    return sorted(path for kind in kinds for path in folder.glob(kind))


def _is_pointer(path: Path) -> bool:
    if path.stat().st_size > 1024:
        return False
    with path.open("rb") as file:
        return file.read(len(LFS_MARK)) == LFS_MARK
