"""Every causal model type of the installed transformers, tiny and random.

    for model_type in causal_types():
        model = build(model_type)

A config is shrunk by the names of its settings, which most families share; what a family needs
beside that is in ``SPECIAL``. Windows and chunks are smaller than the rows of the tests, nothing is
dropped, and weights are large enough that every part of a model matters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests import tiny

VOCAB = 264
"""Room for ``tests.tiny.make_tokenizer``, and for what some tokenizer classes add to it."""
WINDOW = 5
LARGEST = 8_000_000
"""Parameters; a larger model means that some setting was not shrunk."""


class TooLarge(Exception):
    """Some setting was not shrunk."""


SMALL: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "unpadded_vocab_size", "decoder_vocab_size"), VOCAB),
    **dict.fromkeys(
        ("hidden_size", "d_model", "n_embd", "word_embed_proj_dim", "embedding_size", "lru_width",
         "emb_dim", "hidden_dim", "dim", "router_hidden_size", "ple_embed_dim",
         "attention_hidden_size", "embed_dim"), 32),
    **dict.fromkeys(
        ("intermediate_size", "ffn_dim", "d_ff", "n_inner", "ffn_hidden_size", "d_inner", "dff",
         "decoder_ffn_dim", "encoder_ffn_dim", "moe_intermediate_size", "dim_ff", "mlp_dim",
         "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size",
         "intermediate_size_mlp", "expert_ffn_hidden_size", "shared_intermediate_size",
         "feed_forward_size", "attention_ffn_dim", "shared_experts_intermediate_size",
         "moe_latent_size", "dense_intermediate_size"),
        48),
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers",
         "encoder_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(
        ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads",
         "decoder_attention_heads", "encoder_attention_heads", "swa_num_attention_heads",
         "num_encoder_attention_heads", "num_decoder_attention_heads",
         "linear_num_key_heads", "linear_num_value_heads", "linear_num_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "swa_num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(
        ("head_dim", "swa_head_dim", "v_head_dim", "qk_nope_head_dim", "kv_channels", "rotary_dim",
         "qk_rope_head_dim", "linear_key_head_dim", "linear_value_head_dim", "attention_head_dim",
         "global_head_dim", "dim_head", "index_head_dim", "d_kv", "mamba_head_dim",
         "swa_v_head_dim", "mamba_d_head", "mamba_headdim", "kv_lora_rank", "q_lora_rank",
         "o_lora_rank", "state_size", "ssm_state_size", "mamba_d_state", "d_rel", "time_step_rank",
         "hidden_size_per_layer_input", "mamba_dt_rank", "rank", "index_topk", "linear_head_dim",
         "hc_lowrank"), 8),
    **dict.fromkeys(
        ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts",
         "zero_expert_num", "index_n_heads", "o_groups"), 4),
    **dict.fromkeys(
        ("num_experts_per_tok", "moe_topk", "num_experts_per_token", "top_k_experts", "moe_k",
         "moe_top_k"), 2),
    **dict.fromkeys(
        ("n_group", "topk_group", "num_expert_group", "mamba_n_groups", "mamba_ngroups"), 1),
    **dict.fromkeys(
        ("sliding_window", "attention_chunk_size", "attention_window_size", "sliding_window_size",
         "local_attention", "window_size"), WINDOW),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size", "block_size"), 4),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads"), 8),
    **dict.fromkeys(
        ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx",
         "max_target_positions", "model_max_length"), 128),
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
    "first_k_dense_replace": 1, "num_dense_layers": 1,
    "sep_token_id": 2, "vocab_size_per_layer_input": VOCAB, "rel_extent": 16,
}  # fmt: skip
"""What settings of these names become, in every config that has them."""

_MLA = {"num_key_value_heads": 4}
_KDA = {"qk_rope_head_dim": 8, "head_dim": 8, "num_key_value_heads": 4}
_NOTE = {"num_key_value_heads": 4, "head_dim": 16, "per_layer_config": {}}
_INDEXED = {
    "indexer_n_heads": 4,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 8,
    "indexer_compress_ratio": 2,
}
SPECIAL: dict[str, dict[str, Any]] = {
    "axk1": _MLA, "axk2": _MLA, "deepseek_v2": {**_MLA, "num_experts_per_tok": 2},
    "deepseek_v3": _MLA, "deepseek_v32": _MLA,
    "glm4_moe_lite": _MLA, "glm_moe_dsa": _MLA, "minicpm3": _MLA, "youtu": _MLA,
    "kimi_linear": _KDA, "bailing_hybrid": _KDA,
    "longcat_flash": {"num_key_value_heads": 4, "qk_head_dim": 16},
    "blt": {
        "encoder_hash_byte_group_vocab": 64,
        **{part: {"hidden_size_global": 32, "hidden_size": 32, "cross_attn_k": 2}
           for part in ("encoder_config", "decoder_config")},
    },
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 48, "moe_top_k": 2},
    },
    "dots1": {"moe_intermediate_size": 24, "n_routed_experts": 4, "n_shared_experts": 1,
              "num_experts_per_tok": 2, "first_k_dense_replace": 1},
    "falcon_h1": {"mamba_d_ssm": 64, "lm_head_multiplier": 0.25, "key_multiplier": 0.5,
                  "embedding_multiplier": 2.0},
    "hyperclovax": {"logits_scaling": 0.25},
    "granite": {"logits_scaling": 4.0},
    "gemma2": {"final_logit_softcapping": 3.0, "attn_logit_softcapping": 2.0},
    "hunyuan_v1_dense": {"head_dim": 8}, "hunyuan_v1_moe": {"head_dim": 8},
    "ministral": {"head_dim": 8}, "nemotron": {"num_key_value_heads": 2},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2, "num_hidden_layers": 4},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "bamba": {"attn_layer_indices": [1]},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "hrm_text": {"num_layers_per_stack": 2, "num_hidden_layers": 16},
    "recurrent_gemma": {"num_hidden_layers": 3},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "mamba2": {"num_heads": 8, "n_groups": 1},
    "qwen4_exp": {"text_config": _INDEXED}, "qwen4_exp_text": _INDEXED,
    "roc_bert": {"shape_vocab_size": 50, "pronunciation_vocab_size": 50},
    "dots3_note": {
        "text_config": _NOTE,
        "vision_config": {"adapter_in_dim": 32, "adapter_out_dim": 32, "num_attention_heads": 4},
        "audio_config": {"adapter_input_size": 32, "adapter_out_dim": 32},
    },
    "dots3_note_text": _NOTE,
    "xlnet": {"d_head": 8}, "xlm": {"causal": True},
    "xlstm": {"embedding_dim": 32, "num_blocks": 2, "num_hidden_layers": 2,
              "chunkwise_kernel": "chunkwise--native_autograd"},
    "xmod": {"default_language": "en_XX", "languages": ["en_XX"]},
    "zamba": {"layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
              "num_hidden_layers": 4, "attention_hidden_size": 64, "attention_head_dim": 16,
              "mamba_dt_rank": 4, "tie_word_embeddings": True},
    "zamba2": {"attention_hidden_size": 64, "attention_head_dim": 16, "n_mamba_heads": 8,
               "mamba_headdim": 8, "hybrid_layer_ids": [1], "num_query_groups": 4},
    "zaya": {"num_experts_per_tok": 1},
    "gemma3n_text": {"layer_types": ["sliding_attention", "full_attention"] * 2,
                     "num_hidden_layers": 4, "num_kv_shared_layers": 2,
                     "intermediate_size": [48] * 4, "activation_sparsity_pattern": [0.5] * 4,
                     "laurel_rank": 4},
}  # fmt: skip
"""What one model type needs beside ``SMALL``."""

UNSUITABLE: dict[str, str] = {
    "reformer": "its reversible layers pass no gradients on unless the embeddings are trained",
    "gemma3n": "its vision tower needs the packages timm and pillow",
    "gemma4_assistant": "continues the hidden states of another model, not text",
    "gemma4_unified_assistant": "continues the hidden states of another model, not text",
    "musicgen": "continues codes of music, of several books at a time, not text",
    "musicgen_melody": "continues codes of music, of several books at a time, not text",
}
"""Types that cannot be built as a tiny decoder of text, and why."""


def causal_types() -> list[str]:
    """All model types that ``AutoModelForCausalLM`` knows."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def _shrunk(settings: dict[str, Any], special: dict[str, Any]) -> dict[str, Any]:
    """The settings of a default config, made small; nested configs too."""
    lists, chosen = _chosen_layers(settings)
    small: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and "model_type" in value:
            small[name] = _shrunk(value, special.get(name, {}))
        elif name in lists:
            small[name] = [value[index] for index in chosen]
        elif name == "per_layer_config" and value:
            kept = {str(i): value.get(f"{j:02d}", value.get(str(j))) for i, j in enumerate(chosen)}
            small[name] = {i: _shrunk(change, {}) for i, change in kept.items() if change}
        elif ("drop" in name or "jitter" in name) and value is not None:
            small[name] = type(value)(0)
        elif name in SMALL and value is not None and not isinstance(value, (list, dict)):
            small[name] = SMALL[name]
        else:
            small[name] = value
    if chosen:
        small |= {n: len(chosen) for n in LAYERS if n in settings}
    nested = {name for name, value in settings.items()
              if isinstance(value, dict) and "model_type" in value}  # fmt: skip
    return small | {name: value for name, value in special.items() if name not in nested}


LAYERS = ("num_hidden_layers", "n_layer", "num_layers")


def _chosen_layers(settings: dict[str, Any]) -> tuple[dict[str, list[Any]], list[int]]:
    """The settings that are lists over the layers, and one layer of each kind in them."""
    layers = next((settings[n] for n in LAYERS if isinstance(settings.get(n), int)), 0)
    lists = {name: value for name, value in settings.items()
             if isinstance(value, list) and layers > 1 and len(value) == layers}  # fmt: skip
    special = settings.get("per_layer_config") or {}
    kinds: dict[tuple[str, ...], int] = {}
    for index in range(layers):
        own = str(special.get(f"{index:02d}", special.get(str(index))))
        kinds.setdefault((own, *(str(value[index]) for value in lists.values())), index)
    chosen = sorted(kinds.values())[:4] if lists or special else []
    return lists, chosen * 2 if len(chosen) == 1 else chosen


def config_of(model_type: str) -> PretrainedConfig:
    """The small config of a type."""
    kind = CONFIG_MAPPING[model_type]
    settings = _shrunk(kind().to_dict(), SPECIAL.get(model_type, {}))
    for name in ("architectures", "transformers_version", "dtype", "id2label", "label2id"):
        settings.pop(name, None)
    if hasattr(kind(), "is_decoder"):
        settings["is_decoder"] = True
    return kind.from_dict(settings)


def build(model_type: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A frozen random model of a type, in evaluation mode."""
    config = config_of(model_type)
    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    if size > LARGEST:
        raise TooLarge(f"{model_type}: {size:,} parameters")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    tiny.make_it_matter(model)
    return model.requires_grad_(False).to(dtype).eval()


def save(model_type: str, folder: Path) -> Path:
    """A random model of a type, and a tokenizer, as files."""
    model = build(model_type)
    for config in (model.config, model.config.get_text_config(), model.generation_config):
        config.pad_token_id = config.bos_token_id = config.eos_token_id = 0
    model.save_pretrained(folder)
    tiny.make_tokenizer().save_pretrained(folder)
    return folder
