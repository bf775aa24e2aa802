"""Tiny models whose linear layers are not all for LoRA: Mamba, experts, towers for images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as t
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from lorita.system.quiet import quiet_libraries
from tests import tiny

VOCAB = 260
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
TWO_OF_FOUR = {"num_experts_per_tok": 2}
STATES: dict[str, Any] = {
    "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
}  # fmt: skip
SHORT = {key: SIZES[key] for key in ("vocab_size", "hidden_size", "num_hidden_layers")}
ENDS = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}

CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "mamba": lambda: t.MambaConfig(**SHORT, **ENDS, state_size=4),
    "mamba2": lambda: t.Mamba2Config(
        **SHORT, **ENDS, state_size=8, num_heads=4, head_dim=16, n_groups=1, chunk_size=8
    ),
    "falcon_mamba": lambda: t.FalconMambaConfig(**SHORT, **ENDS, state_size=4),
    "jamba": lambda: t.JambaConfig(
        **{**SIZES, "num_hidden_layers": 4}, attn_layer_period=2, attn_layer_offset=1,
        expert_layer_period=2, expert_layer_offset=1, num_experts=4, mamba_d_state=4,
        mamba_dt_rank=4,
    ),
    "nemotron_h": lambda: t.NemotronHConfig(
        **SIZES, layers_block_type=["mamba", "attention"], mamba_num_heads=4, mamba_head_dim=16,
        ssm_state_size=8, n_groups=1, chunk_size=8, head_dim=8,
    ),
    "falcon_h1": lambda: t.FalconH1Config(
        **SIZES, mamba_d_ssm=64, mamba_n_heads=4, mamba_d_head=16, mamba_d_state=8,
        mamba_chunk_size=8,
    ),
    "granitemoehybrid": lambda: t.GraniteMoeHybridConfig(
        **SIZES, **TWO_OF_FOUR, **STATES, layer_types=["mamba", "attention"], num_local_experts=4,
        shared_intermediate_size=32,
    ),
    "phimoe": lambda: t.PhimoeConfig(**SIZES, **TWO_OF_FOUR, num_local_experts=4),
    "llama4": lambda: t.Llama4TextConfig(
        **SIZES, intermediate_size_mlp=48, num_local_experts=4, head_dim=8,
        interleave_moe_layer_step=2,
    ),
    "mixtral": lambda: t.MixtralConfig(**SIZES, num_local_experts=4),
    "qwen2_moe": lambda: t.Qwen2MoeConfig(
        **SIZES, **TWO_OF_FOUR, num_experts=4, moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
    ),
    "qwen3_moe": lambda: t.Qwen3MoeConfig(
        **SIZES, **TWO_OF_FOUR, head_dim=8, num_experts=4, moe_intermediate_size=16
    ),
    "olmoe": lambda: t.OlmoeConfig(**SIZES, **TWO_OF_FOUR, num_experts=4),
    "deepseek_v3": lambda: t.DeepseekV3Config(
        **{**SIZES, "num_key_value_heads": 4}, **TWO_OF_FOUR, n_routed_experts=4, head_dim=8,
        moe_intermediate_size=16, n_group=1, topk_group=1, first_k_dense_replace=1, q_lora_rank=8,
        kv_lora_rank=8, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8,
    ),
    "gpt_oss": lambda: t.GptOssConfig(
        **SIZES, **TWO_OF_FOUR, head_dim=8, num_local_experts=4, sliding_window=8,
        layer_types=["sliding_attention", "full_attention"],
    ),
    "gemma3": lambda: t.Gemma3Config(
        text_config={**SIZES, "head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8},
        vision_config={
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
        },
        mm_tokens_per_image=4, image_token_index=259, boi_token_index=258, eoi_token_index=257,
    ),
    "gemma3n": lambda: t.Gemma3nTextConfig(
        **SIZES, head_dim=8, vocab_size_per_layer_input=VOCAB, hidden_size_per_layer_input=8,
        num_kv_shared_layers=0, laurel_rank=4, sliding_window=5, altup_num_inputs=2,
        layer_types=["sliding_attention", "full_attention"],
        activation_sparsity_pattern=[0.0, 0.0],
    ),
    "zamba2": lambda: t.Zamba2Config(
        **{**SIZES, "num_hidden_layers": 3}, layers_block_type=["mamba", "hybrid", "mamba"],
        n_mamba_heads=4, mamba_d_state=8, mamba_ngroups=1, chunk_size=8, num_mem_blocks=1,
        use_mem_rope=True, adapter_rank=4,
    ),
    "recurrent_gemma": lambda: t.RecurrentGemmaConfig(
        **{**SIZES, "num_hidden_layers": 3}, lru_width=32, attention_window_size=16
    ),
    "rwkv": lambda: t.RwkvConfig(**SHORT, **ENDS, attention_hidden_size=32, context_length=64),
    "opt": lambda: t.OPTConfig(
        **SHORT, **ENDS, ffn_dim=48, num_attention_heads=4, max_position_embeddings=64,
        word_embed_proj_dim=32,
    ),
}  # fmt: skip


def make(name: str) -> PreTrainedModel:
    """The model with random weights, frozen, ready to be asked."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]())
    for parameter in model.parameters():
        # Some start with zeros that would hide what lies behind them.
        if not parameter.any():
            parameter.data += 0.1
    return model.requires_grad_(False).eval()


def save(folder: Path, name: str) -> Path:
    """The model and a tokenizer as a folder in Hugging Face format."""
    with quiet_libraries(hide_bars=True):
        make(name).save_pretrained(folder)
    tiny.make_tokenizer().save_pretrained(folder)
    return folder
