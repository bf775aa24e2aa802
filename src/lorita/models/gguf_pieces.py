"""Tensors that a GGUF file stores as something else than one tensor of the same numbers.

A joint projection becomes its parts, experts that share one tensor become gate and up, and what
transformers computes of a parameter in each call is stored as computed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

RowOrder = Callable[[Any, int], "torch.Tensor"]
"""(configuration, rows) → for each row in the file, the index of that row in the model."""


@dataclass(frozen=True)
class Piece:
    """What tensors of the model whose name ends with ``ending`` become in the file.

    ``names`` are those in the file, with ``{layer}`` for the number of the layer; ``convert`` makes
    as many tensors of one. Rows of it (the last dimension but one, if there are two) stay whole, so
    that it converts the outputs of an adapter, too, if ``of_rows``.

    The way back: rows of the file are put from ``order`` into that of the model, ``back`` makes the
    model's tensor of the file's, and several tensors follow one another in its rows.
    """

    ending: str
    names: tuple[str, ...]
    convert: Callable[[Any, torch.Tensor], Sequence[torch.Tensor]]
    of_rows: bool = True
    order: RowOrder | None = None
    back: Callable[[torch.Tensor], torch.Tensor] | None = None

    def file_names(self, name: str) -> tuple[str, ...] | None:
        """The names in the file for a tensor of the model; None if it is another tensor."""
        layer = re.search(r"\.(\d+)\.", name)
        if not name.endswith(self.ending):
            return None
        if layer is None:
            return None if any("{layer}" in each for each in self.names) else self.names
        return tuple(each.format(layer=layer.group(1)) for each in self.names)


def halves(config: Any, tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    """Gate and up, which lie one after the other in the rows."""
    gate, up = tensor.chunk(2, dim=-2)
    return gate, up


def same(config: Any, tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    """The tensor as it is."""
    return (tensor,)


def column(config: Any, tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    """A vector as a matrix of one column, as ggml multiplies it with the heads of a state."""
    return (tensor[:, None],)


def decay_column(config: Any, tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    """The decay of a state as a matrix of one column."""
    return (-tensor.exp()[:, None],)


def without_channel(config: Any, tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    """The kernel of a convolution of single channels, [C, 1, K] as [C, K]."""
    return (tensor.squeeze(1),)


def state_groups(config: Any, tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    """The norm of a state, one row for each group."""
    return (tensor.view(config.mamba_n_groups, -1),)


def value_heads(config: Any) -> tuple[int, int, int]:
    """(heads of keys, heads of values for each of them, their size) of gated delta nets."""
    keys = config.linear_num_key_heads
    return keys, config.linear_num_value_heads // keys, config.linear_value_head_dim


def value_order(config: Any, size: int | None = None) -> torch.Tensor:
    """The order of a gated delta net's values in the file: the first head of each group, …

    transformers has the heads of one group together. ``size`` is the width of a head.
    """
    import torch

    keys, each, d = value_heads(config)
    size = d if size is None else size
    index = torch.arange(keys * each * size).view(keys, each, size)
    return index.transpose(0, 1).reshape(-1)


def value_rows(config: Any, rows: int) -> torch.Tensor:
    """The order of the rows of values."""
    return value_order(config)


def head_rows(config: Any, rows: int) -> torch.Tensor:
    """The order of rows of which each head of values has one."""
    return value_order(config, 1)


def values_last(config: Any, rows: int) -> torch.Tensor:
    """The order of rows that end with those of values: queries and keys stay where they are."""
    import torch

    order = value_order(config)
    first = rows - len(order)
    return torch.cat([torch.arange(first), first + order])


def _moved(order: RowOrder, config: Any, tensor: torch.Tensor) -> torch.Tensor:
    return tensor[order(config, tensor.shape[0]).to(tensor.device)]


def delta_inputs(config: Any, tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    """Queries, keys and values, whose heads are reordered."""
    return (_moved(values_last, config, tensor),)


def delta_convolution(config: Any, tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    """The convolution of queries, keys and values."""
    return (_moved(values_last, config, tensor.squeeze(1)),)


def delta_values(config: Any, tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    """One row for each value."""
    return (_moved(value_rows, config, tensor),)


def delta_heads(config: Any, tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    """One row for each head of values."""
    return (_moved(head_rows, config, tensor),)


def delta_decay(config: Any, tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    """The decay of each head of values."""
    return (-delta_heads(config, tensor)[0].exp(),)


def flat(tensor: torch.Tensor) -> torch.Tensor:
    """All numbers in one vector."""
    return tensor.reshape(-1)


def log_decay(tensor: torch.Tensor) -> torch.Tensor:
    """The logarithm of a state's decay."""
    return (-tensor).log().reshape(-1)


def with_channel(tensor: torch.Tensor) -> torch.Tensor:
    """The kernel of a convolution of single channels, [C, K] as [C, 1, K]."""
    return tensor.unsqueeze(1)


_EXPERTS = ("blk.{layer}.ffn_gate_exps.weight", "blk.{layer}.ffn_up_exps.weight")
EXPERTS = (
    Piece(".experts.gate_up_proj", _EXPERTS, halves, of_rows=False),
    Piece(".experts.down_proj", ("blk.{layer}.ffn_down_exps.weight",), same, of_rows=False),
)
GRANITE_EXPERTS = (
    *EXPERTS,
    Piece("block_sparse_moe.router.weight", ("blk.{layer}.ffn_gate_inp.weight",), same),
    Piece(
        "shared_mlp.input_linear.weight",
        ("blk.{layer}.ffn_gate_shexp.weight", "blk.{layer}.ffn_up_shexp.weight"),
        halves,
    ),
    Piece("shared_mlp.output_linear.weight", ("blk.{layer}.ffn_down_shexp.weight",), same),
)
GRANITE_DENSE = (
    Piece(
        "shared_mlp.input_linear.weight",
        ("blk.{layer}.ffn_gate.weight", "blk.{layer}.ffn_up.weight"),
        halves,
    ),
    Piece("shared_mlp.output_linear.weight", ("blk.{layer}.ffn_down.weight",), same),
)
MAMBA2 = (
    Piece("mamba.dt_bias", ("blk.{layer}.ssm_dt.bias",), same, of_rows=False),
    Piece("mamba.A_log", ("blk.{layer}.ssm_a",), decay_column, of_rows=False, back=log_decay),
    Piece("mamba.D", ("blk.{layer}.ssm_d",), column, of_rows=False, back=flat),
    Piece("mamba.conv1d.weight", ("blk.{layer}.ssm_conv1d.weight",), without_channel,
          of_rows=False, back=with_channel),
    Piece("mamba.norm.weight", ("blk.{layer}.ssm_norm.weight",), state_groups, of_rows=False,
          back=flat),
)  # fmt: skip
SHORT_CONVOLUTION = (
    Piece("conv.conv.weight", ("blk.{layer}.shortconv.conv.weight",), without_channel,
          of_rows=False, back=with_channel),
)  # fmt: skip
DELTA_NET = (
    Piece("linear_attn.dt_bias", ("blk.{layer}.ssm_dt.bias",), delta_heads, of_rows=False,
          order=head_rows),
    Piece("linear_attn.A_log", ("blk.{layer}.ssm_a",), delta_decay, of_rows=False,
          order=head_rows, back=log_decay),
    Piece("linear_attn.conv1d.weight", ("blk.{layer}.ssm_conv1d.weight",), delta_convolution,
          of_rows=False, order=values_last, back=with_channel),
    Piece("linear_attn.norm.weight", ("blk.{layer}.ssm_norm.weight",), same, of_rows=False),
    Piece("linear_attn.in_proj_qkv.weight", ("blk.{layer}.attn_qkv.weight",), delta_inputs,
          order=values_last),
    Piece("linear_attn.in_proj_z.weight", ("blk.{layer}.attn_gate.weight",), delta_values,
          order=value_rows),
    Piece("linear_attn.in_proj_b.weight", ("blk.{layer}.ssm_beta.weight",), delta_heads,
          order=head_rows),
    Piece("linear_attn.in_proj_a.weight", ("blk.{layer}.ssm_alpha.weight",), delta_heads,
          order=head_rows),
)  # fmt: skip
