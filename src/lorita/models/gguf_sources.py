"""Which tensors of a GGUF file make a weight of the model, and how.

The inverse of ``Layout.in_file``, without reading anything: the weights are read by it
(``gguf_weights``), and memory is reckoned by it (``memory_needs``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from lorita.errors import ModelError
from lorita.models.gguf_layout import Layout, TensorNames, reading_layout

if TYPE_CHECKING:
    import torch

    from lorita.models.gguf_files import GgufFile, StoredTensor

Back = Callable[["torch.Tensor"], "torch.Tensor"]
"""A tensor of the model, made of one that was read from a file."""
DAMAGED = "The file is damaged, or was made by a program that writes it differently."


@dataclass(frozen=True)
class Source:
    """A weight of the model, its shape there, and the tensors of the file whose rows it is.

    ``order`` is that of the model's rows in the file's tensor, ``back`` what else is to be done;
    both are for a single tensor.
    """

    name: str
    shape: tuple[int, ...]
    stored: tuple[StoredTensor, ...]
    order: torch.Tensor | None = None
    back: Back | None = None

    @property
    def stays(self) -> bool:
        """Whether it can stay in blocks: a matrix whose rows are rows of the file, in one format.

        They may come in another order.
        """
        kinds = {stored.kind for stored in self.stored}
        return self.back is None and len(self.shape) == 2 and len(kinds) == 1

    def check(self, file: GgufFile, found: tuple[int, ...]) -> None:
        """``ModelError`` if a tensor of the shape ``found`` is not the weight."""
        if found != self.shape:
            raise ModelError(
                f"{file.path}: {self.stored[0].name} has the shape {list(found)}, but the model's "
                f"configuration says {list(self.shape)}",
                hint=DAMAGED,
            )


def sources(
    file: GgufFile, layout: Layout, config: Any, shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[Source]:
    """Each weight of the model, of these shapes, that the file has."""
    names = TensorNames(layout, config)
    for name, shape in shapes.items():
        piece = layout.piece_of(name)
        found = (names.of(name) or "",) if piece is None else piece.file_names(name) or ()
        stored = tuple(file.tensors[each] for each in found if each in file.tensors)
        if not stored or len(stored) < len(found):
            continue
        order, back = _way_back(layout, config, name, stored[0], file)
        yield Source(name, shape, stored, order, back)


def _way_back(
    layout: Layout, config: Any, name: str, stored: StoredTensor, file: GgufFile
) -> tuple[torch.Tensor | None, Back | None]:
    """The order of the model's rows in the file, and what makes the weight of the tensor there."""
    module, _, leaf = name.rpartition(".")
    rows = stored.shape[0] if stored.shape else 0
    piece = layout.piece_of(name)
    try:
        if piece is not None:
            order = None if piece.order is None else piece.order(config, rows)
        else:
            order = layout.row_order(module, config, rows)
    except RuntimeError:  # they cannot be divided among the heads
        raise _other_rows(file, stored) from None
    if order is not None and len(order) != rows:
        raise _other_rows(file, stored)
    inverse = None if order is None else order.argsort()
    if piece is not None:
        return inverse, piece.back
    if layout.norm_offset and name.endswith("norm.weight"):
        return inverse, partial(_without, layout.norm_offset)
    if leaf == "weight" and layout.turns(module):
        return inverse, _turned
    if leaf == "weight" and (inputs := layout.column_order(module, config)) is not None:
        return inverse, partial(_columns, inputs)
    return inverse, None


def _other_rows(file: GgufFile, stored: StoredTensor) -> ModelError:
    return ModelError(
        f"{file.path}: {stored.name} has the shape {list(stored.shape)}, whose rows are not those "
        "of the heads in the model's configuration",
        hint=DAMAGED,
    )


def _without(offset: float, tensor: torch.Tensor) -> torch.Tensor:
    return tensor - offset


def _turned(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.t().contiguous()


def _columns(order: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    return tensor[:, order.argsort()]


def kept_sizes(file: GgufFile, model: Any) -> tuple[int, int]:
    """What is in memory where a model stays quantised: bytes of blocks, and ordinary numbers.

    The model may be on the meta device. Nothing stays in blocks for a family without a layout.
    """
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    layout = reading_layout(model.config)
    found = [] if layout is None else list(sources(file, layout, model.config, shapes))
    blocks = sum(stored.size for each in found if each.stays for stored in each.stored)
    return blocks, sum(math.prod(each.shape) for each in found if not each.stays)
