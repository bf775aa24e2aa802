"""What llama.cpp needs to know of hybrids, models with experts and newer families."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lorita.errors import UserError
from lorita.models.gguf_newer import falcon_groups

if TYPE_CHECKING:
    from gguf import GGUFWriter


OTHER_LAYERS = ("lfm2", "lfm2_moe", "granitemoehybrid", "jamba")
"""Families some of whose layers have no attention, which their number of keys says."""


def add_newer_family(writer: GGUFWriter, config: Any) -> None:
    """Write the keys of a family; those of other families are written in ``metadata``."""
    kind = config.model_type
    if kind == "smollm3":
        _require_every(config.no_rope_layers, 0, 4, "no rotation", "smollm3")
    elif kind == "olmo3":
        writer.add_sliding_window(config.sliding_window)
        _require_every(config.layer_types, "full_attention", 4, "full attention", "olmo3")
    elif kind == "ministral3":
        _add_ministral3(writer, config)
    elif kind in ("lfm2", "lfm2_moe"):
        _add_lfm2(writer, config)
    elif kind == "qwen3_moe":
        _add_qwen3_moe(writer, config)
    elif kind in ("granitemoe", "granitemoehybrid"):
        _add_granite(writer, config)
    elif kind in ("qwen3_5_text", "qwen3_5_moe_text", "qwen3_next"):
        _add_delta_net(writer, config)
    elif kind == "mixtral":
        _add_experts(writer, config)
    elif kind == "olmoe":
        _add_olmoe(writer, config)
    elif kind == "cohere2":
        _add_cohere2(writer, config)
    elif kind == "mamba2":
        _add_mamba2(writer, config)
    elif kind == "jamba":
        _add_jamba(writer, config)
    elif kind == "falcon":
        writer.add_tensor_data_layout("jploski")


def head_size(config: Any) -> int:
    """The dimension of one attention head; in Gemma 4, of one with full attention."""
    if config.model_type == "gemma4_text":
        return int(config.per_layer_config["full_attention"].head_dim)
    size = getattr(config, "head_dim", None)
    return int(size or config.hidden_size // config.num_attention_heads)


def states_head_size(config: Any) -> bool:
    """Whether the dimension of a head is a setting of its own and not computed of others."""
    if config.model_type in ("falcon", "mamba2"):
        return False
    return config.model_type == "gemma4_text" or bool(getattr(config, "head_dim", None))


def feed_forward_length(config: Any) -> int | list[int] | None:
    """The width of a feed-forward layer where it is not simply ``intermediate_size``.

    A list where layers differ; None where it is that setting.
    """
    if config.model_type == "gemma3n_text":
        return int(config.intermediate_size[0])
    if config.model_type == "gemma4_text" and config.use_double_wide_mlp:
        own = config.num_hidden_layers - config.num_kv_shared_layers
        wide = [1] * own + [2] * config.num_kv_shared_layers
        return [times * config.intermediate_size for times in wide]
    if config.model_type == "falcon":
        return int(config.ffn_hidden_size)
    if config.model_type == "qwen3_5_moe_text":
        return int(config.moe_intermediate_size)  # not read: every layer has experts
    if config.model_type == "lfm2" and config.block_auto_adjust_ff_dim:
        size = int(2 * config.intermediate_size / 3)
        size = int((config.block_ffn_dim_multiplier or 1) * size)
        multiple = int(config.block_multiple_of)
        return -(-size // multiple) * multiple
    if config.model_type == "granitemoehybrid" and not config.num_local_experts:
        return int(config.shared_intermediate_size)
    return None


def key_value_heads(config: Any) -> int | list[int]:
    """The number of key/value heads, or in models with other layers one for each layer."""
    if config.model_type == "gemma4_text":
        return [int(layer.num_key_value_heads) for layer in config.per_layer_config]
    if config.model_type == "falcon":
        return falcon_groups(config)
    if config.model_type == "mamba2":
        return 0
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    kinds = list(getattr(config, "layer_types", None) or [])
    if config.model_type in OTHER_LAYERS and set(kinds) != {"full_attention"}:
        return [heads if kind == "full_attention" else 0 for kind in kinds]
    return int(heads)


def _require_every(values: Sequence[Any], special: Any, step: int, what: str, kind: str) -> None:
    """``UserError`` unless each ``step``-th layer, and no other, is special."""
    if any((value == special) != ((i + 1) % step == 0) for i, value in enumerate(values)):
        raise UserError(
            f"llama.cpp expects {what} in every {step}th layer of {kind}; this model has "
            f"{', '.join(map(str, values))}"
        )


def _add_ministral3(writer: GGUFWriter, config: Any) -> None:
    rope = config.rope_parameters
    if rope.get("rope_type") != "yarn":
        return
    writer.add_rope_scaling_yarn_beta_fast(rope.get("beta_fast") or 32.0)
    writer.add_rope_scaling_yarn_beta_slow(rope.get("beta_slow") or 1.0)
    writer.add_rope_scaling_yarn_log_mul(rope.get("mscale_all_dim") or 0.0)
    if rope.get("llama_4_scaling_beta"):
        writer.add_attn_temperature_scale(rope["llama_4_scaling_beta"])


def _add_lfm2(writer: GGUFWriter, config: Any) -> None:
    writer.add_shortconv_l_cache(config.conv_L_cache)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    if config.conv_bias:
        raise UserError("llama.cpp knows no biases of LFM2's convolutions (conv_bias)")
    if config.model_type == "lfm2_moe":
        import gguf

        _add_experts(writer, config)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
        writer.add_leading_dense_block_count(config.num_dense_layers)
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)


def _add_olmoe(writer: GGUFWriter, config: Any) -> None:
    _add_experts(writer, config)
    if config.num_key_value_heads != config.num_attention_heads:
        raise UserError("llama.cpp expects as many heads of keys as of queries in olmoe")


def _add_cohere2(writer: GGUFWriter, config: Any) -> None:
    import gguf

    writer.add_sliding_window(config.sliding_window)
    writer.add_logit_scale(config.logit_scale)
    writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
    _require_every(config.layer_types, "full_attention", 4, "full attention", "cohere2")
    if head_size(config) * config.num_attention_heads != config.hidden_size:
        raise UserError("llama.cpp expects heads of cohere2 that share the hidden size (head_dim)")


def _add_qwen3_moe(writer: GGUFWriter, config: Any) -> None:
    if not config.norm_topk_prob:
        raise UserError(
            "llama.cpp divides the weights of a token's experts by their sum, this model does not "
            "(norm_topk_prob)"
        )
    if config.mlp_only_layers or config.decoder_sparse_step != 1:
        raise UserError("llama.cpp expects experts in every layer of qwen3_moe")
    _add_experts(writer, config)
    writer.add_expert_feed_forward_length(config.moe_intermediate_size)


def _add_experts(writer: GGUFWriter, config: Any) -> None:
    count = getattr(config, "num_local_experts", None) or config.num_experts
    writer.add_expert_count(count)
    writer.add_expert_used_count(config.num_experts_per_tok)


def _add_granite(writer: GGUFWriter, config: Any) -> None:
    writer.add_attention_scale(config.attention_multiplier)
    writer.add_embedding_scale(config.embedding_multiplier)
    writer.add_residual_scale(config.residual_multiplier)
    writer.add_logit_scale(config.logits_scaling)
    if config.num_local_experts:
        _add_experts(writer, config)
        shared = getattr(config, "shared_intermediate_size", None)
        if shared:
            writer.add_expert_shared_feed_forward_length(shared)
    if config.model_type != "granitemoehybrid":
        return
    writer.add_rope_scaling_finetuned(config.position_embedding_type == "rope")
    if "linear_attention" in config.layer_types:
        inner = config.mamba_n_heads * config.mamba_d_head
        _add_states(writer, config.mamba_d_conv, config.mamba_d_state, inner, config.mamba_n_heads)
        writer.add_ssm_group_count(config.mamba_n_groups)


def _add_states(writer: GGUFWriter, kernel: int, size: int, inner: int, rank: int) -> None:
    """Write what recurrent layers have: a convolution, and states of ``inner`` numbers in all.

    ``rank`` is the number of heads, in Mamba 1 the rank of the time step.
    """
    writer.add_ssm_conv_kernel(kernel)
    writer.add_ssm_state_size(size)
    writer.add_ssm_inner_size(inner)
    writer.add_ssm_time_step_rank(rank)


def _add_mamba2(writer: GGUFWriter, config: Any) -> None:
    writer.add_layer_norm_rms_eps(config.layer_norm_epsilon)
    inner = config.num_heads * config.head_dim
    _add_states(writer, config.conv_kernel, config.state_size, inner, config.num_heads)
    writer.add_ssm_group_count(config.n_groups)


def _add_jamba(writer: GGUFWriter, config: Any) -> None:
    _add_experts(writer, config)
    inner = config.mamba_expand * config.hidden_size
    _add_states(writer, config.mamba_d_conv, config.mamba_d_state, inner, config.mamba_dt_rank)


def _add_delta_net(writer: GGUFWriter, config: Any) -> None:
    kinds = config.layer_types
    interval = kinds.index("full_attention") + 1 if "full_attention" in kinds else len(kinds) + 1
    _require_every(kinds, "full_attention", interval, "full attention", config.model_type)
    if config.linear_value_head_dim != config.linear_key_head_dim:
        raise UserError(
            f"llama.cpp expects keys and values of one size in the linear layers of "
            f"{config.model_type} (linear_key_head_dim, linear_value_head_dim)"
        )
    writer.add_full_attention_interval(interval)
    heads, size = config.linear_num_value_heads, config.linear_key_head_dim
    _add_states(writer, config.linear_conv_kernel_dim, size, size * heads, heads)
    writer.add_ssm_group_count(config.linear_num_key_heads)
    if config.model_type != "qwen3_5_text":
        _add_experts(writer, config)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
        writer.add_expert_shared_feed_forward_length(config.shared_expert_intermediate_size)
    if config.model_type == "qwen3_next":
        return
    # For images. Text has the same position in all three, so that any division does.
    pairs = int(config.rope_parameters["partial_rotary_factor"] * config.head_dim) // 2
    third = pairs // 3
    sections = config.rope_parameters.get("mrope_section") or [pairs - 2 * third, third, third]
    writer.add_rope_dimension_sections([*sections, 0])
