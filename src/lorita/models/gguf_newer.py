"""How newer families store what differs: joint projections, AltUp, routers, groups of heads.

Those of other families are in ``gguf_pieces`` and ``gguf_layout``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lorita.models.gguf_pieces import (
    Piece,
    column,
    decay_column,
    same,
    value_heads,
    without_channel,
)

if TYPE_CHECKING:
    import torch


def falcon_groups(config: Any) -> int:
    """Falcon's number of key/value heads, each with its queries."""
    if config.new_decoder_architecture:
        return int(config.num_kv_heads)
    return 1 if config.multi_query else int(config.num_attention_heads)


def groups_last(config: Any, rows: int) -> torch.Tensor:
    """The row order for Falcon: queries, key and value per group become all q, all k, all v."""
    import torch

    size = config.hidden_size // config.num_attention_heads
    index = torch.arange(rows).view(falcon_groups(config), -1, size)
    parts = (index[:, :-2], index[:, -2], index[:, -1])
    return torch.cat([part.reshape(-1) for part in parts])


def keys_of_sharing_layers(config: Any) -> dict[str, tuple[int, ...]]:
    """Gemma 3n's layers that use the keys and values of others: in a file, they have their own."""
    own = config.num_hidden_layers - config.num_kv_shared_layers
    matrix = (config.num_key_value_heads * config.head_dim, config.hidden_size)
    shapes: dict[str, tuple[int, ...]] = {
        "attn_k": matrix,
        "attn_v": matrix,
        "attn_k_norm": (config.head_dim,),
    }
    return {
        f"blk.{layer}.{name}.weight": shape
        for layer in range(own, config.num_hidden_layers)
        for name, shape in shapes.items()
    }


def joint_delta_inputs(config: Any, tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    """Queries, keys and values, and gates, which the model has together for each head of keys."""
    keys, each, d = value_heads(config)
    sizes = [config.linear_key_head_dim] * 2 + [each * d] * 2
    rest = tensor.shape[1:]
    parts = tensor.view(keys, sum(sizes), *rest).split(sizes, dim=1)
    import torch

    *joint, gate = (part.reshape(-1, *rest) for part in parts)
    return torch.cat(joint), gate


def decay(config: Any, tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    """The decay of a state, from its logarithm."""
    return (-tensor.exp(),)


def norm_groups(config: Any, tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    """The norm of Mamba 2's state, one row for each group."""
    return (tensor.view(config.n_groups, -1),)


def row_for_every_token(config: Any, tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    """Embeddings with as many rows as tokens: the model looks up those beyond the table as 0."""
    import torch

    if config.vocab_size == tensor.shape[0]:
        return (tensor,)
    index = torch.arange(config.vocab_size, device=tensor.device)
    return (tensor[torch.where(index < tensor.shape[0], index, 0)],)


JOINT_DELTA_NET = (
    Piece("linear_attn.dt_bias", ("blk.{layer}.ssm_dt.bias",), same, of_rows=False),
    Piece("linear_attn.A_log", ("blk.{layer}.ssm_a",), decay, of_rows=False),
    Piece("linear_attn.conv1d.weight", ("blk.{layer}.ssm_conv1d.weight",), without_channel,
          of_rows=False),
    Piece("linear_attn.norm.weight", ("blk.{layer}.ssm_norm.weight",), same, of_rows=False),
    Piece("linear_attn.in_proj_qkvz.weight",
          ("blk.{layer}.attn_qkv.weight", "blk.{layer}.attn_gate.weight"), joint_delta_inputs),
)  # fmt: skip
EXPERT_BIAS = (
    Piece("feed_forward.expert_bias", ("blk.{layer}.exp_probs_b.bias",), same, of_rows=False),
)
ALTUP = (
    Piece(
        "altup.correct_output_scale", ("blk.{layer}.altup_correct_scale.weight",), same,
        of_rows=False,
    ),
    Piece(
        "embed_tokens_per_layer.weight", ("per_layer_token_embd.weight",), row_for_every_token,
        of_rows=False,
    ),
)  # fmt: skip
GEMMA4 = (
    Piece(".layer_scalar", ("blk.{layer}.layer_output_scale.weight",), same, of_rows=False),
    Piece("router.scale", ("blk.{layer}.ffn_gate_inp.scale",), same, of_rows=False),
    Piece("router.per_expert_scale", ("blk.{layer}.ffn_down_exps.scale",), same, of_rows=False),
    Piece(".experts.gate_up_proj", ("blk.{layer}.ffn_gate_up_exps.weight",), same, of_rows=False),
    Piece(".experts.down_proj", ("blk.{layer}.ffn_down_exps.weight",), same, of_rows=False),
)
MIXER = (
    Piece("mixer.dt_bias", ("blk.{layer}.ssm_dt.bias",), same, of_rows=False),
    Piece("mixer.A_log", ("blk.{layer}.ssm_a",), decay_column, of_rows=False),
    Piece("mixer.D", ("blk.{layer}.ssm_d",), column, of_rows=False),
    Piece(
        "mixer.conv1d.weight", ("blk.{layer}.ssm_conv1d.weight",), without_channel, of_rows=False
    ),
    Piece("mixer.norm.weight", ("blk.{layer}.ssm_norm.weight",), norm_groups, of_rows=False),
)
MAMBA1 = (
    Piece("mamba.A_log", ("blk.{layer}.ssm_a",), decay, of_rows=False),
    Piece("mamba.D", ("blk.{layer}.ssm_d",), same, of_rows=False),
    Piece(
        "mamba.conv1d.weight", ("blk.{layer}.ssm_conv1d.weight",), without_channel, of_rows=False
    ),
)
