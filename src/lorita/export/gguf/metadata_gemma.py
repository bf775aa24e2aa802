"""What llama.cpp needs to know of Gemma's generations: windows, scales, keys that layers share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lorita.errors import UserError
from lorita.export.gguf.metadata_families import head_size
from lorita.models.gguf_completed import gemma_scale

if TYPE_CHECKING:
    from gguf import GGUFWriter

GEMMAS = ("gemma2", "gemma3_text", "gemma3n_text", "gemma4_text")
"""Families that ``add_gemma`` knows: those with windows."""
SPARSE = 0.95
"""The part of a layer's activations that Gemma 3n's first layers leave out."""


def add_gemma(writer: GGUFWriter, config: Any) -> None:
    """Write the keys of a Gemma with windows; ``UserError`` for what llama.cpp cannot do."""
    writer.add_sliding_window(config.sliding_window)
    near = (config.rope_parameters or {}).get("sliding_attention")
    if near:
        writer.add_rope_freq_base_swa(near["rope_theta"])
    if config.model_type == "gemma3n_text":
        _add_gemma3n(writer, config)
        return
    if config.model_type == "gemma4_text":
        _add_gemma4(writer, config)
        return
    if getattr(config, "attn_logit_softcapping", None):
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    if getattr(config, "final_logit_softcapping", None):
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    # llama.cpp infers the next two from the family; a model that deviates would answer wrongly.
    expected = 2 if config.model_type == "gemma2" else 6
    pattern = [
        "full_attention" if (i + 1) % expected == 0 else "sliding_attention"
        for i in range(config.num_hidden_layers)
    ]
    if list(config.layer_types) != pattern:
        raise UserError(
            f"llama.cpp expects full attention in every {expected}th layer of "
            f"{config.model_type}; this model has {', '.join(config.layer_types)}"
        )
    if config.query_pre_attn_scalar != gemma_scale(config):
        raise UserError(
            f"llama.cpp scales the attention of such a {config.model_type} by "
            f"{gemma_scale(config)}, this model by {config.query_pre_attn_scalar} "
            "(query_pre_attn_scalar)"
        )


def _add_gemma3n(writer: GGUFWriter, config: Any) -> None:
    layers, shared = config.num_hidden_layers, config.num_kv_shared_layers
    # llama.cpp reads none of these three, but they say what is in the file.
    writer.add_altup_active_idx(config.altup_active_idx)
    writer.add_altup_num_inputs(config.altup_num_inputs)
    writer.add_embedding_length_per_layer_input(config.hidden_size_per_layer_input)
    writer.add_shared_kv_layers(shared)
    writer.add_sliding_window_pattern(5)
    _require_sharing(config)
    _require_full(config, 5)
    if max(0, layers - 20) != shared:
        raise UserError(
            f"llama.cpp lets the layers of gemma3n after the 20th share their keys and values; "
            f"this model has {layers} layers, {shared} of which share them (num_kv_shared_layers)"
        )
    sparse = [SPARSE if i < 10 else 0.0 for i in range(layers)]
    if list(config.activation_sparsity_pattern) != sparse:
        raise UserError(
            f"llama.cpp computes the first ten layers of gemma3n, and no others, with a sparsity "
            f"of {SPARSE}; this model has {config.activation_sparsity_pattern}"
        )
    if len(set(config.intermediate_size)) > 1:
        raise UserError(
            "llama.cpp expects feed-forward layers of one width in gemma3n; this model has "
            f"{sorted(set(config.intermediate_size))} (intermediate_size)"
        )


def _add_gemma4(writer: GGUFWriter, config: Any) -> None:
    near, far = (config.per_layer_config[i].head_dim for i in _a_layer_of_each_kind(config))
    writer.add_key_length_swa(near)
    writer.add_value_length_swa(near)
    writer.add_rope_dimension_count_swa(near)
    writer.add_rope_dimension_count(far)
    writer.add_rope_freq_base(config.rope_parameters["full_attention"]["rope_theta"])
    writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in config.layer_types])
    writer.add_shared_kv_layers(config.num_kv_shared_layers)
    writer.add_embedding_length_per_layer_input(config.hidden_size_per_layer_input or 0)
    writer.add_final_logit_softcapping(config.final_logit_softcapping or 0.0)
    _require_sharing(config)
    _require_ropes(config)
    if config.hidden_size_per_layer_input and (
        config.vocab_size_per_layer_input != config.vocab_size
    ):
        raise UserError(
            f"llama.cpp expects {config.vocab_size} embeddings for each layer, one for every "
            f"token; this model has {config.vocab_size_per_layer_input}"
        )
    if config.enable_moe_block:
        writer.add_expert_count(config.num_experts)
        writer.add_expert_used_count(config.top_k_experts)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)


def rotary_factors(config: Any) -> list[float]:
    """What Gemma 4 divides the rotary frequencies of full attention by: those left out by 1e30."""
    pairs = head_size(config) // 2
    rope = config.rope_parameters["full_attention"]
    turned = int(rope.get("partial_rotary_factor", 1.0) * head_size(config) // 2)
    return [1.0] * turned + [1e30] * (pairs - turned)


def _a_layer_of_each_kind(config: Any) -> tuple[int, int]:
    """A layer with a window and one without; a kind that the model lacks is the other one."""
    kinds = list(config.layer_types)
    far = kinds.index("full_attention")  # the last layer is always one
    return kinds.index("sliding_attention") if "sliding_attention" in kinds else far, far


def _require_full(config: Any, step: int) -> None:
    """``UserError`` unless every ``step``-th layer has full attention, and the others windows."""
    wanted = [(i + 1) % step == 0 for i in range(config.num_hidden_layers)]
    if [kind == "full_attention" for kind in config.layer_types] != wanted:
        raise UserError(
            f"llama.cpp expects full attention in every {step}th layer of {config.model_type}; "
            f"this model has {', '.join(config.layer_types)}"
        )


def _require_sharing(config: Any) -> None:
    """``UserError`` unless layers share the keys of those that llama.cpp takes them from."""
    own = config.num_hidden_layers - config.num_kv_shared_layers
    last = list(config.layer_types)[:own][-2:]
    if config.num_kv_shared_layers and last != ["sliding_attention", "full_attention"]:
        raise UserError(
            "llama.cpp lets layers share the keys of the last two layers that have their own, and "
            f"expects a window in the first of them only; in this model they are {', '.join(last)}"
        )


def _require_ropes(config: Any) -> None:
    """``UserError`` for rotary positions that llama.cpp does not compute for Gemma 4."""
    for kind, known in (("sliding_attention", ("default",)), ("full_attention", ("proportional",))):
        rope = config.rope_parameters.get(kind) or {}
        name = rope.get("rope_type", "default")
        if kind in config.layer_types and (name not in known or rope.get("factor", 1.0) != 1.0):
            raise UserError(
                f"llama.cpp does not support rotary positions of type {name!r} in the "
                f"{kind.replace('_', ' ')} of {config.model_type}"
            )
