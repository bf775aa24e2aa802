"""A tiny model of every family that can be exported to GGUF, with an adapter on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.gemma3n import Gemma3nTextConfig
from transformers.models.gemma4 import Gemma4TextConfig

from lorita.models.adapter import attach, lora_config, trainable_parameters
from tests import tiny, zoo
from tests.engine.families import CONFIGS

GGUF_FAMILIES = (
    "llama", "llama-3", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "phi3-long",
    "gpt2", "gpt_neox", "bloom", "starcoder2", "olmo2", "granite", "gemma", "falcon-rotary",
    "falcon-new",
)  # fmt: skip
NEWER: dict[str, dict[str, Any]] = {
    "smollm3": {
        "num_hidden_layers": 4, "no_rope_layers": [1, 1, 1, 0],
        "layer_types": ["full_attention"] * 4,
    },
    "olmo3": {
        "num_hidden_layers": 4, "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
    },
    "ministral": {"sliding_window": 64},
    "ministral3": {},
    "lfm2": {},
    "qwen3_moe": {"norm_topk_prob": True},
    "granitemoe": {
        "logits_scaling": 4.0, "residual_multiplier": 0.5, "embedding_multiplier": 2.0,
        "attention_multiplier": 0.2,
    },
    "granitemoehybrid": {"mamba_n_groups": 2},
    "granitemoehybrid, dense": {"num_local_experts": 0},
    "granitemoehybrid, attention": {
        "layer_types": ["full_attention"] * 2, "position_embedding_type": "rope",
    },
    "granitemoehybrid, attention, dense": {
        "num_local_experts": 0, "layer_types": ["full_attention"] * 2,
        "position_embedding_type": "rope",
    },
    "qwen3_5_text": {
        "num_hidden_layers": 4, "linear_num_key_heads": 2, "linear_num_value_heads": 6,
        "layer_types": ["linear_attention"] * 3 + ["full_attention"],
    },
    "qwen3_5_moe_text": {
        "num_hidden_layers": 4, "linear_num_key_heads": 2,
        "layer_types": ["linear_attention"] * 3 + ["full_attention"],
    },
    "qwen3_next": {
        "num_hidden_layers": 4, "linear_num_key_heads": 2,
        "layer_types": ["linear_attention"] * 3 + ["full_attention"],
    },
    "mixtral": {},
    "olmoe": {"num_key_value_heads": 4},
    "lfm2_moe": {
        "num_hidden_layers": 4, "layer_types": ["conv", "full_attention"] * 2,
    },
    "mamba2": {"n_groups": 2},
    "jamba": {},
    "cohere2": {
        "num_hidden_layers": 4, "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
    },
}  # fmt: skip
"""Families that are made as in ``tests.zoo``, with these changes. Layouts as in ``LAYOUTS``."""
_GEMMA: dict[str, Any] = {
    "vocab_size": 264, "vocab_size_per_layer_input": 264, "hidden_size": 32,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 5,
    "max_position_embeddings": 128,
}  # fmt: skip
GEMMAS: dict[str, Callable[[], PretrainedConfig]] = {
    # Keys of a layer with a window and of one without are shared, as after llama.cpp's 20th.
    "gemma3n_text": lambda: Gemma3nTextConfig(
        **_GEMMA | {"vocab_size_per_layer_input": 258}, num_hidden_layers=25,
        num_kv_shared_layers=5, intermediate_size=4096,
    ),
    "gemma4_text": lambda: Gemma4TextConfig(
        **_GEMMA, num_hidden_layers=6, layer_types=["sliding_attention", "full_attention"] * 3,
        intermediate_size=48, num_kv_shared_layers=2, use_double_wide_mlp=True,
        hidden_size_per_layer_input=8, global_head_dim=16, final_logit_softcapping=3.0,
    ),
    "gemma4_text; experts": lambda: Gemma4TextConfig(
        **_GEMMA, num_hidden_layers=3, intermediate_size=48, hidden_size_per_layer_input=0,
        layer_types=["sliding_attention"] * 2 + ["full_attention"], global_head_dim=16,
        num_global_key_value_heads=1, attention_k_eq_v=True, enable_moe_block=True,
        num_experts=4, top_k_experts=2, moe_intermediate_size=24,
    ),
}  # fmt: skip
"""Gemmas whose settings depend on each other."""
FAMILIES = (*GGUF_FAMILIES, *NEWER, *GEMMAS)
TARGETS = {"gpt2": ["c_attn", "c_proj", "c_fc"]}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token per byte, one merge and an end-of-text token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = (
        {"<|endoftext|>": 0} | {letter: i + 1 for i, letter in enumerate(alphabet)} | {"th": 257}
    )
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[("t", "h")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


def make_config(family: str) -> Any:
    """The family's tiny configuration, with sliding windows as llama.cpp supports them."""
    if family in GEMMAS:
        config = GEMMAS[family]()
        config.bos_token_id = config.eos_token_id = config.pad_token_id = 0
        return config
    if family in NEWER:
        config = zoo.config_of(family.partition(",")[0])
        config.bos_token_id = config.eos_token_id = config.pad_token_id = 0
        for setting, value in NEWER[family].items():
            setattr(config, setting, value)
        return config
    name = {"llama-3": "llama", "phi3-long": "phi3"}.get(family, family)
    config = CONFIGS[name]()
    config.vocab_size = 264  # more rows than tokens, as many models have
    config.bos_token_id = config.eos_token_id = config.pad_token_id = 0
    if family in ("mistral", "phi3", "phi3-long", "starcoder2"):
        config.sliding_window = 64
    if family == "llama-3":
        config.rope_parameters = {
            "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
        }  # fmt: skip
    if family == "phi3-long":
        # Beyond this context llama.cpp uses the long factors, and its smallest context is 256.
        config.original_max_position_embeddings = 256
        config.max_position_embeddings = 512
        config.rope_parameters = {
            "rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 1.0,
            "original_max_position_embeddings": 256,
            "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [2.0, 2.1, 2.2, 2.3],
        }  # fmt: skip
    if family == "gemma3":
        config.num_hidden_layers = 6
        config.layer_types = ["sliding_attention"] * 5 + ["full_attention"]
    return config


def make_model(family: str, **changes: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    config = make_config(family)
    for name, value in changes.items():
        setattr(config, name, value)
    model = AutoModelForCausalLM.from_config(config)
    tiny.make_it_matter(model)
    for name, buffer in model.named_buffers():
        if name.endswith(("layer_scalar", "expert_bias")):
            buffer += 0.5 * torch.randn_like(buffer)
    return model.requires_grad_(False).eval()


def save_base(folder: Path, family: str, **options: Any) -> Path:
    make_model(family, **options).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def with_adapter(
    model: PreTrainedModel, family: str = "llama", *, zero: bool = False, **options: Any
) -> PeftModel:
    """An adapter that changes the model in every tensor or, with ``zero``, not at all."""
    options = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", **options}
    if family in TARGETS:
        options["target_modules"] = TARGETS[family]
    tuned = attach(model, lora_config(model, options), seed=1)
    torch.manual_seed(2)
    if zero:
        return tuned.eval()
    for name, parameter in trainable_parameters(tuned).items():
        parameter.data += 0.1 * torch.randn_like(parameter)
        assert "lora" in name or options.get("bias") or options.get("modules_to_save")
    return tuned.eval()
