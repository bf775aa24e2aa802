"""GGUF files opened and checked: their metadata, and where each tensor is.

What is in the tensors is read elsewhere (``gguf_tensors``), and so is what the metadata mean
(``gguf_config``).
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lorita.errors import ModelError
from lorita.models.gguf_header import FalseHeader, Header, TensorPlace, map_file, read_header
from lorita.models.gguf_split import COUNT, other_parts
from lorita.storage.reading import one_message, plain_size

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")

MAGIC = b"GGUF"


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: name, shape as torch has it, gguf's kind, and where its bytes are."""

    name: str
    shape: tuple[int, ...]
    kind: int
    start: int
    size: int


@dataclass(frozen=True)
class GgufFile:
    """A mapped GGUF file whose tensors are all there."""

    path: Path
    data: mmap.mmap
    header: Header
    tensors: dict[str, StoredTensor]
    parts: tuple[GgufFile, ...] = ()
    """The other files of a model that is split; ``tensors`` has theirs, too."""

    def reader(self, read: Callable[..., T]) -> Callable[..., T]:
        """``read(file, stored, …)`` of a tensor, with the file that it is in filled in."""
        owners = {name: part for part in self.parts for name in part.tensors}
        return lambda stored, *rest: read(owners.get(stored.name, self), stored, *rest)

    def bytes_of(self, stored: StoredTensor) -> np.ndarray[Any, Any]:
        """The bytes of a tensor as they are in the file, mapped: uint8 [rows, bytes of a row]."""
        import numpy as np

        rows = math.prod(stored.shape[:-1])
        return np.frombuffer(self.data, np.uint8, stored.size, stored.start).reshape(rows, -1)


def check_gguf(path: Path) -> None:
    """Raise ``ModelError`` unless ``path`` is readable and starts like a GGUF file."""
    if not path.exists():
        raise ModelError(f"{path}: file not found")
    plain_size(path, ModelError)
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    if magic != MAGIC:
        raise ModelError(
            f"{path}: not a GGUF file (it starts with {magic!r}, not {MAGIC!r})",
            hint="--model takes a .gguf file, a folder in Hugging Face format or a hub id.",
        )


def open_mapped(path: Path) -> GgufFile:
    """The file, mapped; none of its tensors is read yet.

    Of a model that is split, ``path`` is the first file, and all are opened. Raises ``ModelError``
    if a file is truncated, damaged, missing or of another byte order, or the gguf package is
    missing.
    """
    _require_package(path)
    first = _open_one(path)
    count = first.header.get(COUNT) if COUNT in first.header.entries else 1
    if not isinstance(count, int) or count <= 1:
        return first
    parts = tuple(_open_one(part) for part in other_parts(path, count))
    tensors = dict(first.tensors)
    for part in parts:
        if tensors.keys() & part.tensors.keys():
            raise _damaged(part.path, FalseHeader("it has tensors of another part"))
        tensors |= part.tensors
    return replace(first, tensors=tensors, parts=parts)


def _open_one(path: Path) -> GgufFile:
    try:
        data = map_file(path)
        header = read_header(data)
        tensors = {tensor.name: _stored(tensor, header) for tensor in header.tensors}
    except (FalseHeader, OSError) as error:
        raise _damaged(path, error) from error
    end = max((tensor.start + tensor.size for tensor in tensors.values()), default=0)
    if (end == 0 and COUNT not in header.entries) or end > len(data):
        raise ModelError(
            f"{path}: the GGUF file is truncated: {len(data):,} of {end:,} bytes",
            hint="Download it again and compare its size with the original.",
        )
    if len(tensors) < len(header.tensors):
        raise _damaged(path, FalseHeader("it has several tensors of one name"))
    if header.is_big_endian:
        raise ModelError(
            f"{path}: the GGUF file is for processors with another byte order (big-endian)",
            hint="Use the ordinary file of this model, or convert it: gguf-convert-endian.",
        )
    return GgufFile(path, data, header, tensors)


def _stored(tensor: TensorPlace, header: Header) -> StoredTensor:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        numbers, size = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.kind)]
    except (ValueError, KeyError):
        raise FalseHeader(f"{tensor.name} is in an unknown number format ({tensor.kind})") from None
    count = 1
    for length in tensor.shape:
        count *= length
    if count % numbers or (tensor.shape and tensor.shape[-1] % numbers):
        raise FalseHeader(f"{tensor.name}: rows of {tensor.shape[-1]} are no whole blocks")
    start = header.start + tensor.offset
    return StoredTensor(tensor.name, tensor.shape, tensor.kind, start, count // numbers * size)


def _require_package(path: Path) -> None:
    from importlib.util import find_spec

    if find_spec("gguf") is None:
        raise ModelError(
            f"{path}: reading GGUF files needs the gguf package",
            hint='Install it with: pip install "lorita[gguf]"',
        )


def _damaged(path: Path, error: Exception) -> ModelError:
    reason = str(error) if isinstance(error, FalseHeader) else type(error).__name__
    return ModelError(
        f"{path}: the GGUF file is damaged or truncated ({reason})",
        hint="Download it again and compare its size with the original.",
    )


def open_whole(path: Path) -> GgufFile:
    """A file that export copies from. Raises like ``open_mapped``, and for one that is split."""
    file = open_mapped(path)
    if file.parts:
        raise ModelError(
            f"{path}: the model is split into {len(file.parts) + 1} files, which are not copied",
            hint=f"Join them first: llama-gguf-split --merge {path.name} whole.gguf",
        )
    return file


def metadata(path: Path, *keys: str) -> dict[str, Any]:
    """These values of a GGUF file's metadata, as far as it has them; ``ModelError`` if damaged."""
    header = open_mapped(path).header
    with one_message(f"{path}: the metadata of the GGUF file is damaged", ModelError):
        return {key: header.get(key) for key in keys if key in header.entries}


def float_type(path: Path) -> str | None:
    """The torch dtype name of a GGUF file's number format; None if it is quantised."""
    kind = metadata(path, "general.file_type").get("general.file_type")
    names = {0: "float32", 1: "float16", 32: "bfloat16"}
    return names.get(kind) if isinstance(kind, int) else None
