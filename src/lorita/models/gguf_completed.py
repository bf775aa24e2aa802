"""What transformers leaves out when it reads the configuration of a GGUF file.

Of each architecture it takes a few keys and gives the rest its defaults, without a word: a model
with another number there would compute something else. Here these numbers are set. A key that
changes what the model computes and that nobody has read is refused, any other one is named.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lorita.errors import LoritaWarning
from lorita.models.gguf_rope import turned_part

if TYPE_CHECKING:
    from lorita.models.gguf_metadata import Metadata

NEUTRAL: dict[str, tuple[object, ...]] = {
    "attention.clamp_kqv": (0,),
    "attention.max_alibi_bias": (0, 8),
    "attention.scale": (),
    "attention.temperature_scale": (0,),
    "attn_logit_softcapping": (0,),
    "embedding_scale": (1,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "expert_weights_scale": (0, 1),
    "final_logit_softcapping": (0,),
    "leading_dense_block_count": (0,),
    "logit_scale": (1,),
    "nextn_predict_layers": (0,),
    "residual_scale": (1,),
    "rope.scaling.attn_factor": (0, 1),
    "ssm.dt_b_c_rms": (False,),
}
"""Keys that change what a model computes, with the values for which they do not."""
HARMLESS = {
    "attention.causal", "attention.head_count_kv", "attention.key_length",
    "attention.sliding_window_pattern", "attention.value_length", "context_length",
    "expert_feed_forward_length", "expert_shared_feed_forward_length", "feed_forward_length",
    "pooling_type", "rope.dimension_sections", "rope.scaling.finetuned",
    "rope.scaling.original_context_length", "tensor_data_layout", "vocab_size",
}  # fmt: skip
"""Keys that repeat what the tensors' shapes say, or that do not matter for text."""
BESIDE = ("vision.", "mm.", "audio.")
"""Beginnings of keys about what stands beside the language model."""
ALTERNATIVES = {
    "attention.layer_norm_epsilon": ("layer_norm_epsilon", "layer_norm_eps", "norm_epsilon"),
    "attention.sliding_window": ("sliding_window",),
    "use_parallel_residual": ("use_parallel_residual",),
}
"""Settings of transformers that a key may be."""
FREQUENCIES = {
    "full_attention": ("rope.freq_base", "rope.global.freq_base"),
    "sliding_attention": ("rope.freq_base_swa", "rope.local.freq_base"),
}
"""Keys of the base of frequencies where layers differ in it: llama.cpp's and Ollama's."""
BIGGEST_GEMMA = {"gemma2": 46, "gemma3_text": 62}
"""Layers of the model with 27 billion weights, whose scores llama.cpp scales by another size."""

UNREAD = "unread_gguf_keys"
"""An attribute of configurations that have left something out."""

ReadRope = Callable[[], dict[str, Any]]


def complete_config(config: Any, meta: Metadata, read_rope: ReadRope) -> None:
    """Set on ``config`` what the metadata say and transformers has not read.

    ``ModelError`` for what changes the model and cannot be set. Keys that nobody knows are put
    into ``UNREAD``; the configuration is read once and kept, and whoever loads the model says it.
    """
    known = _by_transformers(config, meta)
    for key, names in ALTERNATIVES.items():
        found = next((name for name in names if hasattr(config, name)), None)
        if found is not None and meta.get(key) is not None:
            setattr(config, found, meta.get(key) or None)
    if config.model_type in BIGGEST_GEMMA:
        _complete_gemma(config, meta)
    rope = getattr(config, "rope_parameters", None)
    if rope is not None:
        _complete_rope(config, meta, rope, read_rope())
    for key, harmless in NEUTRAL.items():
        if key not in known and not meta.asked(key):  # or whoever asked has looked at it
            meta.must_be(key, *harmless)
    left = [key for key in meta.unasked() if key not in known | HARMLESS]
    left = [key for key in left if not key.startswith(BESIDE)]
    if left:
        setattr(config, UNREAD, left)


def warn_of_unread(name: str, config: Any) -> None:
    """A ``LoritaWarning`` if keys were left out; the configuration then is as any other."""
    left = vars(config).pop(UNREAD, None)
    if left:
        warnings.warn(
            f"{name}: lorita does not know what {', '.join(left[:5])} says about the model, and "
            "leaves it out",
            LoritaWarning,
            stacklevel=3,
        )


def _by_transformers(config: Any, meta: Metadata) -> set[str]:
    """The keys that transformers reads of this architecture."""
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

    kind = str(config.model_type)
    for name in (meta.architecture, kind, kind.removesuffix("_text")):
        if name in GGUF_CONFIG_MAPPING:
            return {key for key, setting in GGUF_CONFIG_MAPPING[name].items() if setting}
    return set()


def gemma_scale(config: Any) -> int:
    """By the root of which llama.cpp divides the scores of Gemma 2 and 3; a file does not say it.

    It is the size of a head, or in the biggest model of each the heads' share of the hidden size.
    """
    if config.num_hidden_layers == BIGGEST_GEMMA[config.model_type]:
        return int(config.hidden_size // config.num_attention_heads)
    return int(config.head_dim)


def _complete_gemma(config: Any, meta: Metadata) -> None:
    """The scale of the scores as llama.cpp chooses it, and both caps, which files need not have."""
    config.query_pre_attn_scalar = gemma_scale(config)
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if (cap := meta.get(name)) is not None:
            setattr(config, name, float(cap) or None)


def _complete_rope(config: Any, meta: Metadata, rope: dict[str, Any], read: dict[str, Any]) -> None:
    """Rotary positions, of models with several kinds of layers those of full attention."""
    size = int(getattr(config, "head_dim", 0) or config.hidden_size // config.num_attention_heads)
    if "full_attention" in rope:
        meta.must_be("rope.dimension_count", size)
        rope["full_attention"] |= {**read, "rope_theta": rope["full_attention"]["rope_theta"]}
        for kind, keys in FREQUENCIES.items():
            found = [base for key in keys if (base := meta.get(key)) is not None]
            if found:
                rope[kind]["rope_theta"] = float(found[0])
        return
    if "partial_rotary_factor" in rope:
        read = read | {"partial_rotary_factor": turned_part(meta, size)}
    else:
        meta.must_be("rope.dimension_count", size)
    if read["rope_type"] == "longrope":
        config.original_max_position_embeddings = read["original_max_position_embeddings"]
    config.rope_parameters = {**rope, **read}
