"""Writes safetensors files tensor by tensor, split and indexed as transformers does.

The library's own writer needs all tensors in memory at once; a merge computes one after another.
Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.storage.files import check_room
from lorita.training.events import OnEvent, PhaseStarted, unseen

if TYPE_CHECKING:
    import torch

_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True)
class Entry:
    """A tensor to write; ``read`` computes it when its turn comes."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], torch.Tensor]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return int(math.prod(self.shape) * self.dtype.itemsize)


def write_safetensors(
    entries: Sequence[Entry], folder: Path, max_shard_size: int, on_event: OnEvent = unseen
) -> int:
    """Write ``model.safetensors``, or shards and their index; returns the bytes of the tensors."""
    on_event(phase := PhaseStarted("Merging and writing", len(entries), "tensors"))
    total = sum(entry.size for entry in entries)
    check_room(folder, total)
    shards = _split(entries, max_shard_size)
    if len(shards) == 1:
        _write_file(shards[0], folder / "model.safetensors", phase)
        return total
    names: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _write_file(shard, folder / file, phase)
        names |= {entry.name: file for entry in shard}
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(names.items()))}
    text = json.dumps(index, indent=2) + "\n"
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    return total


def _split(entries: Sequence[Entry], limit: int) -> list[list[Entry]]:
    shards: list[list[Entry]] = [[]]
    for entry in entries:
        if shards[-1] and sum(e.size for e in shards[-1]) + entry.size > limit:
            shards.append([])
        shards[-1].append(entry)
    return shards


def _write_file(entries: Sequence[Entry], path: Path, phase: PhaseStarted) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for entry in entries:
        kind = _NAMES[str(entry.dtype).removeprefix("torch.")]
        end = start + entry.size
        header[entry.name] = {
            "dtype": kind,
            "shape": list(entry.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for entry in entries:
            file.write(_bytes(entry.read()))
            phase.advance()


def _bytes(tensor: torch.Tensor) -> memoryview:
    import torch

    flat = tensor.detach().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy())
