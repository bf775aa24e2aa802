"""Writes the tensors and metadata of a GGUF file, one tensor in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.export.gguf.number_formats import byte_shape
from lorita.training.events import OnEvent, PhaseStarted, unseen

if TYPE_CHECKING:
    import gguf
    import numpy as np

    from lorita.models.gguf_header import Header
    from lorita.models.gguf_layout import Layout


@dataclass(frozen=True)
class Planned:
    """A tensor to write; ``make`` computes it when its turn comes."""

    name: str
    shape: tuple[int, ...]
    kind: gguf.GGMLQuantizationType
    make: Callable[[], np.ndarray[Any, Any]]

    @property
    def size(self) -> int:
        """Bytes in the file."""
        import math

        return math.prod(byte_shape(self.shape, self.kind))


def new_writer(layout: Layout) -> gguf.GGUFWriter:
    """gguf-py's writer for a model of this architecture."""
    import gguf

    architecture = gguf.MODEL_ARCH[layout.architecture.upper()]
    return gguf.GGUFWriter(None, gguf.MODEL_ARCH_NAMES[architecture])


def write_tensors(
    writer: gguf.GGUFWriter, path: Path, planned: Sequence[Planned], on_event: OnEvent = unseen
) -> None:
    """Write the writer's metadata and the tensors to ``path``, and close the writer."""
    import numpy as np

    on_event(phase := PhaseStarted("Converting and writing", len(planned), "tensors"))

    for tensor in planned:
        shape = byte_shape(tensor.shape, tensor.kind)
        writer.add_tensor_info(
            tensor.name, shape, np.dtype(np.uint8), tensor.size, raw_dtype=tensor.kind
        )
    try:
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in planned:
            writer.write_tensor_data(tensor.make())
            phase.advance()
    finally:
        writer.close()


def copy_metadata(
    header: Header,
    writer: gguf.GGUFWriter,
    leave_out: Sequence[str],
    changed: Mapping[str, Any] | None = None,
) -> None:
    """Copy every key of a file, with its type, except ``leave_out``, and add what has ``changed``.

    What has changed and is in the file as well keeps its type.
    """
    import gguf

    changed = changed or {}
    left_out = {"general.architecture", *leave_out}  # the writer has its own architecture
    for name, entry in header.entries.items():
        if name in left_out:
            continue
        inner = header.inner_kind(name)
        kind = None if inner is None else gguf.GGUFValueType(inner)
        value = changed[name] if name in changed else header.get(name)
        writer.add_key_value(name, value, gguf.GGUFValueType(entry.kind), sub_type=kind)
    for name in changed.keys() - header.entries.keys():
        writer.add_array(name, changed[name])


def numpy_float32(tensor: Any) -> np.ndarray[Any, Any]:
    """A torch tensor as a contiguous float32 array."""
    array: np.ndarray[Any, Any] = tensor.detach().float().contiguous().numpy()
    return array
