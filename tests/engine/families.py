"""A tiny model of each build that the fast step supports.

Every record of ``lorita.engine.families`` needs at least one here, with the settings that the
record is about.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers import models as m

from tests import tiny

VOCAB = 97
ROPE = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WINDOW = 5
"""Shorter than the longest rows of the tests."""

CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "llama": lambda: m.llama.LlamaConfig(**ROPE, attention_bias=True),
    "llama-one-kv-head": lambda: m.llama.LlamaConfig(**{**ROPE, "num_key_value_heads": 1}),
    "mistral": lambda: m.mistral.MistralConfig(**ROPE, sliding_window=WINDOW),
    "qwen2": lambda: m.qwen2.Qwen2Config(**ROPE),
    "qwen3": lambda: m.qwen3.Qwen3Config(**ROPE, head_dim=8),
    "gemma": lambda: m.gemma.GemmaConfig(**ROPE, head_dim=8),
    "gemma2": lambda: m.gemma2.Gemma2Config(
        **ROPE, head_dim=8, sliding_window=WINDOW, query_pre_attn_scalar=8,
        attn_logit_softcapping=2.0, final_logit_softcapping=3.0,
    ),
    "gemma3": lambda: m.gemma3.Gemma3TextConfig(
        **ROPE, head_dim=8, sliding_window=WINDOW, query_pre_attn_scalar=8,
        layer_types=["sliding_attention", "full_attention"],
    ),
    "phi3": lambda: m.phi3.Phi3Config(**ROPE, sliding_window=WINDOW),
    "gpt2": lambda: m.gpt2.GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=64, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=1, eos_token_id=2,
    ),
    "gpt_neox": lambda: m.gpt_neox.GPTNeoXConfig(
        **{**ROPE, "num_key_value_heads": None}, rotary_pct=0.5
    ),
    "opt": lambda: m.opt.OPTConfig(
        vocab_size=VOCAB, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64, word_embed_proj_dim=32, dropout=0.0, pad_token_id=0,
    ),
    "bloom": lambda: m.bloom.BloomConfig(vocab_size=VOCAB, hidden_size=32, n_layer=2, n_head=4),
    "bloom-6-heads": lambda: m.bloom.BloomConfig(
        vocab_size=VOCAB, hidden_size=48, n_layer=2, n_head=6
    ),
    "falcon-rotary": lambda: m.falcon.FalconConfig(
        vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        multi_query=True, alibi=False,
    ),
    "falcon-alibi": lambda: m.falcon.FalconConfig(
        vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        multi_query=False, alibi=True, parallel_attn=False, bias=True,
    ),
    "falcon-new": lambda: m.falcon.FalconConfig(
        vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_kv_heads=2, new_decoder_architecture=True, alibi=False,
    ),
    "starcoder2": lambda: m.starcoder2.Starcoder2Config(**ROPE, sliding_window=WINDOW),
    "olmo2": lambda: m.olmo2.Olmo2Config(**ROPE),
    "granite": lambda: m.granite.GraniteConfig(
        **ROPE, logits_scaling=4.0, residual_multiplier=0.5, embedding_multiplier=2.0,
        attention_multiplier=0.2,
    ),
    "hyperclovax": lambda: m.hyperclovax.HyperCLOVAXConfig(
        **ROPE, logits_scaling=0.25, attention_multiplier=0.2
    ),
}  # fmt: skip


def make(name: str, dtype: torch.dtype = torch.float32, **changes: Any) -> PreTrainedModel:
    """A frozen model of ``CONFIGS`` with random weights that are large enough to matter."""
    torch.manual_seed(0)
    config = CONFIGS[name]()
    for option, value in changes.items():
        setattr(config, option, value)
    model = AutoModelForCausalLM.from_config(config)
    tiny.make_it_matter(model)
    return model.requires_grad_(False).to(dtype).eval()
