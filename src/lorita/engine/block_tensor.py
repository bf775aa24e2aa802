"""Weights that stay quantised: blocks in the place of a model's weight, expanded where it is used.

A model in 4 bits takes less than a third of what it takes as bfloat16. Its products need ordinary
numbers, but only of the piece that is being multiplied. Expanding a piece costs the same for any
number of tokens, so it matters least where many are computed at once (``benchmarks/big.py``).

To PEFT and transformers a ``BlockTensor`` is a weight of the shape and dtype that they expect.
Linear layers and embeddings use the blocks directly; any other operation gets an expanded copy.
Nothing can change it: an operation that would raises ``ModelError``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_map

from lorita.engine.kernels.expand import BLOCKS, block_of, expand
from lorita.engine.kernels.kept import Kept
from lorita.engine.kernels.ops import frozen_linear
from lorita.engine.kernels.products import product, widened
from lorita.errors import ModelError

PIECE = 2**23
"""Numbers that exist at a time: 32 MB in float32. A product of fewer output rows is slow."""


@dataclass(frozen=True)
class Blocks:
    """A matrix [O, I] as quantised blocks: ``rows`` is uint8 [O, bytes of a row].

    ``kind`` is the format's number in ggml. The bytes may be those of a mapped file.
    """

    rows: Tensor
    kind: int

    @property
    def shape(self) -> tuple[int, int]:
        """[O, I]."""
        numbers, size = block_of(self.kind)
        return len(self.rows), self.rows.shape[1] // size * numbers

    def expand(self, out: Tensor, first: int = 0) -> None:
        """The rows from ``first`` on as numbers, as many as ``out`` [n, I] has."""
        expand(self.rows[first : first + len(out)], self.kind, out)

    def gathered(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """The rows with these numbers as [*ids.shape, I]; ``IndexError`` where there are none."""
        flat = ids.reshape(-1)
        if len(flat) and (int(flat.min()) < 0 or int(flat.max()) >= len(self.rows)):
            raise IndexError("index out of range in self")  # the words of torch's own embedding
        out = torch.empty(len(flat), self.shape[1], dtype=dtype)
        expand(self.rows[flat], self.kind, out)
        return out.view(*ids.shape, -1)


class BlockWeight:
    """Matrices with the same inputs as one weight [sum of their O, I] (a ``RoundedWeight``)."""

    def __init__(self, parts: Sequence[Blocks], dtype: torch.dtype) -> None:
        self.parts, self.dtype = tuple(parts), dtype
        self.shape = (sum(part.shape[0] for part in parts), parts[0].shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def forward(self, x_TI: Tensor) -> Tensor:
        """``x·Wᵀ`` [T, O], in the type of ``x``."""
        wide = x_TI.float() if widened(x_TI) else x_TI
        out_TO = None
        for first, piece in self._pieces(wide.dtype):
            part = product(wide, piece)
            if len(piece) == len(self):
                return part.to(x_TI.dtype)
            out_TO = x_TI.new_empty(len(x_TI), len(self)) if out_TO is None else out_TO
            out_TO[:, first : first + len(piece)] = part
        if out_TO is None:
            raise ValueError("a weight without rows")
        return out_TO

    def backward(self, grad_TO: Tensor) -> Tensor:
        """``grad·W`` [T, I], in the type of ``grad``; summed over pieces in float32."""
        wide = grad_TO.float() if widened(grad_TO) else grad_TO
        sum_TI = None
        for first, piece in self._pieces(wide.dtype):
            part = product(wide[:, first : first + len(piece)].contiguous(), piece.t())
            sum_TI = part.float() if sum_TI is None else sum_TI.add_(part)
        if sum_TI is None:
            raise ValueError("a weight without rows")
        return sum_TI.to(grad_TO.dtype)

    def beside(self, others: Sequence[Any]) -> BlockWeight:
        """See ``QuantisedWeight``; all in this one's dtype."""
        parts = [part for weight in (self, *others) for part in weight.parts]
        return BlockWeight(parts, self.dtype)

    def place(self) -> tuple[int, int] | None:
        """See ``QuantisedWeight``; None for several matrices as well."""
        (blocks, *more) = self.parts
        if more or blocks.kind not in BLOCKS or not blocks.rows.is_contiguous():
            return None
        return blocks.rows.data_ptr(), blocks.kind

    def _pieces(self, dtype: torch.dtype) -> Iterator[tuple[int, Tensor]]:
        """The first row of each piece, and its numbers, which the next piece overwrites."""
        width = self.shape[1]
        count = -(-self.shape[0] * width // PIECE)
        ends = [self.shape[0] * i // count for i in range(count + 1)]
        starts = [0]
        for part in self.parts:
            starts.append(starts[-1] + part.shape[0])
        for first, end in pairwise(ends):
            piece = _kept.empty((end - first, width), dtype)
            for part, start in zip(self.parts, starts, strict=False):
                low, high = max(first, start), min(end, start + part.shape[0])
                if low < high:
                    part.expand(piece[low - first : high - first], low - start)
            yield first, piece


_kept = Kept()


class BlockTensor(Tensor):
    """A frozen matrix [O, I] of ``dtype``, whose numbers are ``blocks``."""

    blocks: Blocks

    @staticmethod
    def __new__(cls, blocks: Blocks, dtype: torch.dtype) -> BlockTensor:
        made: Any = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, blocks.shape, dtype=dtype, device=blocks.rows.device
        )
        return made  # type: ignore[no-any-return]

    def __init__(self, blocks: Blocks, dtype: torch.dtype) -> None:
        self.blocks = blocks

    @property
    def quantised(self) -> BlockWeight:
        """For products, by whoever calls them itself (``kernels.products.quantised``)."""
        return BlockWeight((self.blocks,), self.dtype)

    def expanded(self) -> Tensor:
        """An ordinary tensor with the same numbers, rounded to ``dtype``."""
        out = torch.empty(self.shape, dtype=self.dtype)
        self.blocks.expand(out)
        return out

    def values_at(self, places: Tensor) -> Tensor:
        """The numbers at these places of the flattened matrix; nothing else is expanded."""
        rows, which = torch.unique(places // self.shape[1], return_inverse=True)
        return self.blocks.gathered(rows, self.dtype)[which, places % self.shape[1]]

    def data_ptr(self) -> int:
        """Where the blocks are: what tells one weight from another."""
        return int(self.blocks.rows.data_ptr())

    def __repr__(self, **options: Any) -> str:
        return f"BlockTensor({list(self.shape)}, {self.dtype}, kind={self.blocks.kind})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        made = _again(self)
        return nn.Parameter(made, requires_grad=False) if isinstance(self, nn.Parameter) else made

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.linear and isinstance(args[1], BlockTensor):
            x, weight, *bias = args
            given = bias[0] if bias else (kwargs or {}).get("bias")
            return frozen_linear(x, weight.quantised, given)
        if func is functional.embedding and isinstance(args[1], BlockTensor):
            return args[1].blocks.gathered(args[0], args[1].dtype)
        with torch._C.DisableTorchFunctionSubclass():  # results are what dispatch makes them
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (torch.ops.aten.detach.default, torch.ops.aten.alias.default):
            return _again(args[0])
        if func is torch.ops.aten._to_copy.default and isinstance(args[0], BlockTensor):
            return _again(args[0], **(kwargs or {}))
        if any(
            given.alias_info is not None and given.alias_info.is_write and _holds_blocks(value)
            for given, value in zip(func._schema.arguments, args, strict=False)
        ):
            raise ModelError(
                "the base's weights stay quantised and cannot be changed",
                hint="lorita merge writes a model with the adapter in its weights.",
            )
        plain = tree_map(_plain, (args, kwargs or {}))
        return func(*plain[0], **plain[1])


def with_all_rows(parts: Sequence[Tensor]) -> BlockTensor:
    """Matrices in blocks of one kind as one, with the rows of all, which are copied."""
    blocks = [part.blocks for part in parts if isinstance(part, BlockTensor)]
    rows = torch.cat([each.rows for each in blocks])
    return BlockTensor(Blocks(rows, blocks[0].kind), parts[0].dtype)


def _again(weight: BlockTensor, **options: Any) -> Tensor:
    """The same blocks, as numbers of another dtype if it is among the options of ``to``."""
    dtype = options.get("dtype") or weight.dtype
    device = torch.device(options.get("device") or "cpu")
    if device.type == "cpu" and dtype.is_floating_point:
        with torch.inference_mode(False):  # a view of a weight that was made outside it
            return BlockTensor(weight.blocks, dtype)
    return weight.expanded().to(device, dtype)


def _holds_blocks(value: Any) -> bool:
    values = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(each, BlockTensor) for each in values)


def _plain(value: Any) -> Any:
    return value.expanded() if isinstance(value, BlockTensor) else value
