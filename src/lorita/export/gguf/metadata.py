"""A model's configuration as GGUF metadata: sizes, norms, rotary positions, windows, scales.

The keys are gguf-py's. A configuration that llama.cpp does not support is refused, never
approximated.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lorita.errors import UserError
from lorita.export.gguf.metadata_assumed import require_assumed
from lorita.export.gguf.metadata_families import (
    add_newer_family,
    feed_forward_length,
    head_size,
    key_value_heads,
    states_head_size,
)
from lorita.export.gguf.metadata_gemma import GEMMAS, add_gemma, rotary_factors
from lorita.models.gguf_rope import llama3_factors

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFWriter

OWN_WINDOWS = (*GEMMAS, "phi3", "olmo3", "cohere2")
"""Families whose windows llama.cpp knows."""


def add_metadata(writer: GGUFWriter, config: Any) -> list[str]:
    """Write what llama.cpp needs to know about ``config``.

    Returns notes on what llama.cpp does differently; raises ``UserError`` for what it cannot do.
    """
    require_assumed(config)
    _add_sizes(writer, config)
    _add_norms(writer, config)
    _add_rope(writer, config)
    _add_family(writer, config)
    window = getattr(config, "sliding_window", None)
    uses = getattr(config, "use_sliding_window", True) and config.model_type != "qwen3"
    if window and uses and config.model_type not in OWN_WINDOWS:
        return [
            f"This model attends to the last {window} tokens only, but llama.cpp uses full "
            "attention in this family: longer texts may differ"
        ]
    return []


def _add_sizes(writer: GGUFWriter, config: Any) -> None:
    heads = 0 if config.model_type == "mamba2" else config.num_attention_heads
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    context = getattr(config, "max_position_embeddings", None) or getattr(
        config, "seq_length", 2048
    )
    writer.add_context_length(context)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    inner = feed_forward_length(config) or inner or 4 * config.hidden_size
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(key_value_heads(config))
    writer.add_vocab_size(config.vocab_size)
    if states_head_size(config):
        size = head_size(config)
        writer.add_key_length(size)
        writer.add_value_length(size)


def _add_norms(writer: GGUFWriter, config: Any) -> None:
    rms = getattr(config, "rms_norm_eps", None)
    if rms is not None:
        writer.add_layer_norm_rms_eps(rms)
    for name in ("layer_norm_epsilon", "layer_norm_eps", "norm_epsilon"):
        if rms is None and getattr(config, name, None) is not None:
            writer.add_layer_norm_eps(getattr(config, name))
            return


def _rope(config: Any) -> dict[str, Any]:
    """The rotary parameters of (full) attention; empty if the model has none."""
    rope = getattr(config, "rope_parameters", None) or {}
    return dict(rope.get("full_attention", rope))


def _add_rope(writer: GGUFWriter, config: Any) -> None:
    import gguf

    rope = _rope(config)
    if not rope or config.model_type == "gemma4_text":
        return
    part = rope.get("partial_rotary_factor") or getattr(config, "rotary_pct", None) or 1.0
    writer.add_rope_dimension_count(int(part * head_size(config)))
    writer.add_rope_freq_base(rope["rope_theta"])
    kind = rope.get("rope_type", "default")
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    elif kind not in ("default", "llama3", "longrope"):
        raise UserError(f"llama.cpp does not support rotary positions of type {kind!r}")


def rope_tensors(config: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Factors for rotary frequencies that GGUF stores as tensors (Llama 3, Phi-3, Gemma 4)."""
    import numpy as np

    if config.model_type == "gemma4_text":
        return {"rope_freqs.weight": np.array(rotary_factors(config), np.float32)}
    rope = _rope(config)
    kind = rope.get("rope_type", "default")
    if kind == "longrope":
        return {
            f"rope_factors_{which}.weight": np.array(rope[f"{which}_factor"], np.float32)
            for which in ("long", "short")
        }
    if kind == "llama3":
        return {"rope_freqs.weight": np.array(llama3_factors(rope, head_size(config)), np.float32)}
    return {}


def _add_family(writer: GGUFWriter, config: Any) -> None:
    kind = config.model_type
    if kind in GEMMAS:
        add_gemma(writer, config)
    elif kind == "phi3":
        _add_phi3(writer, config)
    elif kind == "gpt_neox":
        writer.add_parallel_residual(config.use_parallel_residual)
    elif kind == "granite":
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_logit_scale(config.logits_scaling)
    else:
        add_newer_family(writer, config)


def _add_phi3(writer: GGUFWriter, config: Any) -> None:
    rope = _rope(config)
    context = config.max_position_embeddings
    original = (
        rope.get("original_max_position_embeddings")
        or getattr(config, "original_max_position_embeddings", None)
        or context
    )
    writer.add_rope_scaling_orig_ctx_len(original)
    writer.add_sliding_window(config.sliding_window or 0)
    if rope.get("rope_type") == "longrope":
        stretch = context / original
        factor = math.sqrt(1 + math.log(stretch) / math.log(original)) if stretch > 1 else 1.0
        writer.add_rope_scaling_attn_factors(factor)
