"""Settings that llama.cpp does not read: it computes each family with the values that are here."""

from __future__ import annotations

from math import inf
from typing import Any

from lorita.errors import UserError

_SILU: dict[str, tuple[Any, ...]] = {"hidden_act": ("silu",)}
_GELU = ("gelu_pytorch_tanh", "gelu_new", "gelu")  # apart by less than half-precision numbers are
_GATED = (
    "llama", "mistral", "ministral", "ministral3", "smollm3", "qwen2", "qwen3", "qwen3_moe",
    "qwen3_5_text", "phi3", "granite", "granitemoe", "granitemoehybrid", "olmo2", "olmo3",
)  # fmt: skip
ASSUMED: dict[str, dict[str, tuple[Any, ...]]] = {
    **dict.fromkeys(_GATED, _SILU),
    "gemma2": {"hidden_activation": _GELU, "attention_bias": (False,)},
    "gemma3_text": {
        "hidden_activation": _GELU, "attention_bias": (False,),
        "use_bidirectional_attention": (None, False),
    },
    "gpt2": {
        "activation_function": _GELU, "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
    },
    "gpt_neox": {"hidden_act": _GELU},
    "bloom": {"apply_residual_connection_post_layernorm": (False,)},
    "starcoder2": {"hidden_act": _GELU},
    "gemma": {"hidden_act": _GELU, "attention_bias": (False,), "tie_word_embeddings": (True,)},
    "gemma3n_text": {
        "hidden_activation": _GELU, "attention_bias": (False,), "altup_active_idx": (0,),
        "altup_num_inputs": (4,), "altup_correct_scale": (True,), "laurel_rank": (64,),
        "hidden_size_per_layer_input": (256,), "final_logit_softcapping": (30.0,),
    },
    "gemma4_text": {
        "hidden_activation": _GELU, "attention_bias": (False,),
        "use_bidirectional_attention": (None, "vision"),
    },
    "mixtral": _SILU,
    "olmoe": {
        **_SILU, "attention_bias": (False,), "clip_qkv": (None,), "norm_topk_prob": (False,),
    },
    "qwen3_next": {
        **_SILU, "attention_bias": (False,), "norm_topk_prob": (True,),
        "decoder_sparse_step": (1,), "mlp_only_layers": (None, []),
    },
    "qwen3_5_moe_text": {**_SILU, "attention_bias": (False,)},
    "lfm2_moe": {
        "conv_bias": (False,), "norm_topk_prob": (True,), "use_expert_bias": (True,),
        "routed_scaling_factor": (1.0,),
    },
    "cohere2": {**_SILU, "attention_bias": (False,), "tie_word_embeddings": (True,)},
    "mamba2": {
        **_SILU, "use_bias": (False,), "use_conv_bias": (True,),
        "time_step_limit": ((0.0, inf), [0.0, inf]),
    },
    "jamba": {
        **_SILU, "mamba_expand": (2,), "mamba_conv_bias": (True,), "mamba_proj_bias": (False,),
    },
    "falcon": {
        "alibi": (False,), "bias": (False,), "parallel_attn": (True,), "activation": _GELU,
    },
}  # fmt: skip
"""For each ``model_type``: the values of a setting with which llama.cpp computes what it should."""


def require_assumed(config: Any) -> None:
    """``UserError`` with every setting of ``config`` that llama.cpp would not know of."""
    found = [
        f"{name} = {getattr(config, name)!r} (expected: {' or '.join(map(repr, known))})"
        for name, known in ASSUMED.get(config.model_type, {}).items()
        if getattr(config, name) not in known
    ]
    if found:
        raise UserError(
            f"llama.cpp computes {config.model_type} without knowing of {', '.join(found)}"
        )
