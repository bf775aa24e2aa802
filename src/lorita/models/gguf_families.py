"""Configurations of GGUF files of families that transformers does not read, or reads wrongly.

The inverse of ``export.gguf.metadata``, for files that llama.cpp's converter makes as well: for
each architecture, which key of the metadata is which setting. A key that nobody here knows is
refused, since it may change what the model computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lorita.models.gguf_rope import turned_part

if TYPE_CHECKING:
    from lorita.models.gguf_metadata import Metadata

Settings = dict[str, Any]

SIZES = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
}
"""In every file."""
_FEED_FORWARD = {"feed_forward_length": "intermediate_size"}
_RMS = {"attention.layer_norm_rms_epsilon": "rms_norm_eps"}
_USUAL = {**_FEED_FORWARD, **_RMS}
HARMLESS = {"vocab_size", "tensor_data_layout"}
"""Keys that repeat what the tensors say."""
_MAMBA = {
    f"ssm.{key}"
    for key in ("conv_kernel", "state_size", "group_count", "inner_size", "time_step_rank")
}
_ONE_EXPERT = {"expert_count", "expert_used_count", "expert_shared_feed_forward_length"}
_ATTENTION, _LINEAR, _SLIDING = "full_attention", "linear_attention", "sliding_attention"


@dataclass(frozen=True)
class Family:
    """How the metadata of an architecture become settings of ``kind``, a ``model_type``.

    ``keys`` are numbers, ``more`` reads what is not simply one. ``partial``: only a part of each
    head may be turned. ``harmless`` keys are not needed.
    """

    kind: str
    keys: Mapping[str, str] = field(default_factory=lambda: _USUAL)
    more: Callable[[Metadata, Settings], Settings] = lambda meta, known: {}
    partial: bool = False
    harmless: frozenset[str] = frozenset()


def own_settings(meta: Metadata, rope: Mapping[str, Any]) -> Settings:
    """The settings of a configuration, with ``model_type``, for an architecture in ``FAMILIES``.

    ``rope`` are its rotary parameters. ``ModelError`` for what is not understood.
    """
    family = FAMILIES[meta.architecture]
    keys = {**SIZES, **family.keys}
    known: Settings = {setting: meta.number(key) for key, setting in keys.items()}
    if known["num_hidden_layers"] > len(meta.tensors):
        raise meta.error(f"it claims {known['num_hidden_layers']:,} layers, more than tensors")
    known |= {"model_type": family.kind, "tie_word_embeddings": "output.weight" not in meta.tensors}
    for setting, token in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        known[f"{setting}_token_id"] = meta.token(token)
    known |= _heads(meta, known)
    known["rope_parameters"] = {**rope, **_part(meta, known, family)}
    known |= family.more(meta, known)
    meta.refuse_unknown(HARMLESS | family.harmless)
    return known


def _heads(meta: Metadata, known: Settings) -> Settings:
    """The number of key/value heads, and the size of a head if it is not the usual one."""
    heads, layers = known["num_attention_heads"], known["num_hidden_layers"]
    each = meta.per_layer("attention.head_count_kv", layers, heads)
    if len(set(each) - {0}) != 1:
        raise meta.error("layers with different numbers of key/value heads")
    found = {"num_key_value_heads": max(each)}
    size = meta.get("attention.key_length")
    meta.must_be("attention.value_length", size)
    return found if size is None else found | {"head_dim": size}


def _size(known: Settings) -> int:
    """The dimension of a head."""
    return int(known.get("head_dim") or known["hidden_size"] // known["num_attention_heads"])


def _part(meta: Metadata, known: Settings, family: Family) -> Settings:
    """Which part of each head is turned, where that may be less than all."""
    if family.partial:
        return {"partial_rotary_factor": turned_part(meta, _size(known))}
    meta.must_be("rope.dimension_count", _size(known))
    return {}


def _kinds(meta: Metadata, known: Settings, other: str) -> list[str]:
    """The kind of each layer: those of the other kind have no key/value heads."""
    layers = known["num_hidden_layers"]
    each = meta.per_layer("attention.head_count_kv", layers, known["num_attention_heads"])
    return [_ATTENTION if heads else other for heads in each]


def _has(meta: Metadata, ending: str) -> bool:
    return any(name.endswith(ending) for name in meta.tensors)


def _olmo(meta: Metadata, known: Settings) -> Settings:
    """OLMo 2, or with a sliding window OLMo 3, which scales positions in full attention only."""
    window = meta.get("attention.sliding_window")
    layers = known["num_hidden_layers"]
    pattern = meta.get("attention.sliding_window_pattern")
    if not window:
        return {}
    if pattern is None:
        pattern = [(i + 1) % 4 != 0 for i in range(layers)]
    if not isinstance(pattern, list) or len(pattern) != layers:
        raise meta.error("attention.sliding_window_pattern has no value for each layer")
    rope = known["rope_parameters"]
    return {
        "model_type": "olmo3",
        "sliding_window": window,
        "layer_types": [_SLIDING if near else _ATTENTION for near in pattern],
        "rope_parameters": {
            _ATTENTION: rope,
            _SLIDING: {
                "rope_type": "default",
                "rope_theta": float(meta.number("rope.freq_base_swa", rope["rope_theta"])),
            },
        },
    }


def _ministral3(meta: Metadata, known: Settings) -> Settings:
    rope = dict(known["rope_parameters"])
    if rope["rope_type"] != "yarn":
        raise meta.error("in this architecture, only positions that yarn scales are read")
    rope["llama_4_scaling_beta"] = meta.number("attention.temperature_scale", 0.0)
    return {"head_dim": _size(known), "sliding_window": None, "rope_parameters": rope}


def _scales(meta: Metadata, known: Settings) -> Settings:
    """What Granite multiplies by; llama.cpp's values where the file has none."""
    return {
        "attention_multiplier": meta.number("attention.scale", _size(known) ** -0.5),
        "embedding_multiplier": meta.number("embedding_scale", 1.0),
        "residual_multiplier": meta.number("residual_scale", 1.0),
        "logits_scaling": meta.number("logit_scale", 1.0),
    }


def _granite(meta: Metadata, known: Settings) -> Settings:
    meta.must_be("expert_count", 0)
    meta.must_be("rope.scaling.finetuned", True)  # it says whether positions are rotary
    if 0 in meta.per_layer("attention.head_count_kv", known["num_hidden_layers"], 1):
        raise meta.error("layers without attention, in an architecture that has none")
    return _scales(meta, known)


def _granite_moe(meta: Metadata, known: Settings) -> Settings:
    """With a shared expert it is Granite 4, whose layers all are attention."""
    found = _scales(meta, known) | _experts(meta, "num_local_experts")
    shared = meta.get("expert_shared_feed_forward_length")
    rotary = meta.get("rope.scaling.finetuned", True)
    if not shared:
        meta.must_be("rope.scaling.finetuned", True)
        return found
    return found | {
        "model_type": "granitemoehybrid",
        "layer_types": [_ATTENTION] * known["num_hidden_layers"],
        "shared_intermediate_size": shared,
        "position_embedding_type": "rope" if rotary else "nope",
        "mamba_n_heads": 1,  # there are no states, but the default may not fit
    }


def _granite_hybrid(meta: Metadata, known: Settings) -> Settings:
    heads, inner = meta.number("ssm.time_step_rank"), meta.number("ssm.inner_size")
    found = _scales(meta, known)
    shared = meta.get("expert_shared_feed_forward_length")
    if meta.get("expert_count"):
        found |= _experts(meta, "num_local_experts")
    else:
        found |= {"num_local_experts": 0, "num_experts_per_tok": 0}
        shared = known["intermediate_size"]
    rotary = meta.get("rope.scaling.finetuned", True)
    return found | {
        "layer_types": _kinds(meta, known, _LINEAR),
        "shared_intermediate_size": shared or 0,
        "position_embedding_type": "rope" if rotary else "nope",
        "mamba_d_conv": meta.number("ssm.conv_kernel"),
        "mamba_d_state": meta.number("ssm.state_size"),
        "mamba_n_groups": meta.number("ssm.group_count"),
        "mamba_n_heads": heads,
        "mamba_d_head": inner // heads,
        "mamba_expand": inner // known["hidden_size"],
        "mamba_conv_bias": _has(meta, ".ssm_conv1d.bias"),
        "mamba_proj_bias": _has(meta, ".ssm_in.bias"),
    }


def _experts(meta: Metadata, count: str) -> Settings:
    return {
        count: meta.number("expert_count"),
        "num_experts_per_tok": meta.number("expert_used_count"),
    }


def _qwen3_moe(meta: Metadata, known: Settings) -> Settings:
    """llama.cpp always divides the weights of a token's experts by their sum."""
    meta.must_be("expert_gating_func", 1)
    meta.must_be("expert_weights_norm", True)
    meta.must_be("expert_weights_scale", 0, 1)
    found = _experts(meta, "num_experts")
    inner = meta.number("feed_forward_length", 0)
    size = meta.number("expert_feed_forward_length", inner // found["num_experts_per_tok"])
    return found | {
        "intermediate_size": inner or size,
        "moe_intermediate_size": size,
        "norm_topk_prob": True,
        "head_dim": _size(known),
    }


def _lfm2(meta: Metadata, known: Settings) -> Settings:
    return {
        "block_auto_adjust_ff_dim": False,  # the width in the file is adjusted
        "conv_L_cache": meta.number("shortconv.l_cache"),
        "conv_bias": _has(meta, ".shortconv.in_proj.bias"),
        "layer_types": _kinds(meta, known, "conv"),
    }


def _qwen35(meta: Metadata, known: Settings) -> Settings:
    """A file may have layers for several tokens at a time at its end, which are not read."""
    layers = known["num_hidden_layers"] - meta.number("nextn_predict_layers", 0)
    interval = meta.number("full_attention_interval", 4)
    heads = meta.number("ssm.time_step_rank")
    sections = meta.get("rope.dimension_sections")
    if not isinstance(sections, list) or len(sections) < 3:
        raise meta.error("rope.dimension_sections is missing")
    images = {"mrope_section": sections[:3], "mrope_interleaved": True}
    return {
        "num_hidden_layers": layers,
        "layer_types": [_LINEAR if (i + 1) % interval else _ATTENTION for i in range(layers)],
        "head_dim": _size(known),
        "linear_conv_kernel_dim": meta.number("ssm.conv_kernel"),
        "linear_key_head_dim": meta.number("ssm.state_size"),
        "linear_num_key_heads": meta.number("ssm.group_count"),
        "linear_num_value_heads": heads,
        "linear_value_head_dim": meta.number("ssm.inner_size") // heads,
        "rope_parameters": {**known["rope_parameters"], **images},
    }


def _gpt_neox(meta: Metadata, known: Settings) -> Settings:
    meta.must_be("attention.head_count_kv", known["num_attention_heads"])
    return {
        "use_parallel_residual": bool(meta.get("use_parallel_residual", True)),
        "attention_bias": _has(meta, ".attn_qkv.bias"),
    }


FAMILIES = {
    "smollm3": Family("smollm3"),
    "granite": Family("granite", more=_granite, harmless=frozenset(_MAMBA | _ONE_EXPERT)),
    "granitemoe": Family("granitemoe", more=_granite_moe, harmless=frozenset(_MAMBA)),
    "granitehybrid": Family(
        "granitemoehybrid", more=_granite_hybrid, harmless=frozenset(_ONE_EXPERT)
    ),
    "olmo2": Family("olmo2", more=_olmo),
    "mistral3": Family("ministral3", more=_ministral3),
    "qwen3moe": Family("qwen3_moe", _RMS, _qwen3_moe),
    "lfm2": Family(
        "lfm2",
        {**_FEED_FORWARD, "attention.layer_norm_rms_epsilon": "norm_eps"},
        _lfm2,
    ),
    "qwen35": Family("qwen3_5_text", more=_qwen35, partial=True),
    "gptneox": Family(
        "gpt_neox",
        {**_FEED_FORWARD, "attention.layer_norm_epsilon": "layer_norm_eps"},
        _gpt_neox,
        partial=True,
    ),
}
"""What is read of the files of each architecture, by its name in gguf."""
