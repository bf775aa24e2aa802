"""Quantised blocks in the place of a model's weight: a tensor that is expanded where it is used.

To PEFT and transformers it is a weight of the shape and dtype that they expect. Linear layers and
embeddings use the blocks directly; any other operation gets an expanded copy. Nothing can change
it: an operation that would raises ``ModelError``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_map

from lorita.engine.kernels.block_weight import Blocks, BlockWeight
from lorita.engine.kernels.ops import frozen_linear
from lorita.errors import ModelError


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
                hint="Load it without --base-precision native (or q8, q4).",
            )
        plain = tree_map(_plain, (args, kwargs or {}))
        return func(*plain[0], **plain[1])


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


def values_at(tensor: Tensor, places: Tensor) -> Tensor:
    """The numbers at these places of the flattened tensor; nothing else of it is read."""
    if not isinstance(tensor, BlockTensor):
        return tensor.reshape(-1)[places.to(tensor.device)]
    width = tensor.shape[1]
    rows, which = torch.unique(places // width, return_inverse=True)
    return tensor.blocks.gathered(rows, tensor.dtype)[which, places % width]
