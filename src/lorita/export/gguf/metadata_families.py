"""What llama.cpp needs to know of hybrids, models with experts and newer families."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lorita.errors import UserError

if TYPE_CHECKING:
    from gguf import GGUFWriter


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
    elif kind == "lfm2":
        _add_lfm2(writer, config)
    elif kind == "qwen3_moe":
        _add_qwen3_moe(writer, config)
    elif kind in ("granitemoe", "granitemoehybrid"):
        _add_granite(writer, config)
    elif kind == "qwen3_5_text":
        _add_qwen35(writer, config)


def feed_forward_length(config: Any) -> int | None:
    """The width of a feed-forward layer where it is not simply ``intermediate_size``."""
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
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    kinds = list(getattr(config, "layer_types", None) or [])
    if config.model_type in ("lfm2", "granitemoehybrid") and set(kinds) != {"full_attention"}:
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
        writer.add_ssm_conv_kernel(config.mamba_d_conv)
        writer.add_ssm_state_size(config.mamba_d_state)
        writer.add_ssm_group_count(config.mamba_n_groups)
        writer.add_ssm_inner_size(config.mamba_n_heads * config.mamba_d_head)
        writer.add_ssm_time_step_rank(config.mamba_n_heads)


def _add_qwen35(writer: GGUFWriter, config: Any) -> None:
    kinds = config.layer_types
    interval = kinds.index("full_attention") + 1 if "full_attention" in kinds else len(kinds) + 1
    _require_every(kinds, "full_attention", interval, "full attention", "qwen3_5")
    writer.add_full_attention_interval(interval)
    writer.add_ssm_conv_kernel(config.linear_conv_kernel_dim)
    writer.add_ssm_state_size(config.linear_key_head_dim)
    writer.add_ssm_group_count(config.linear_num_key_heads)
    writer.add_ssm_inner_size(config.linear_value_head_dim * config.linear_num_value_heads)
    writer.add_ssm_time_step_rank(config.linear_num_value_heads)
    # For images. Text has the same position in all three, so that any division does.
    pairs = int(config.rope_parameters["partial_rotary_factor"] * config.head_dim) // 2
    third = pairs // 3
    sections = config.rope_parameters.get("mrope_section") or [pairs - 2 * third, third, third]
    writer.add_rope_dimension_sections([*sections, 0])
