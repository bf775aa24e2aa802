"""Recognise the parts of a transformers model that the engine can compute faster.

Found by their attributes, not by a list of model names: a new family that is built like a known one
is recognised. Whether the recognition was right is checked with numbers (``speedup.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lorita.engine.kernels.heads import Part
from lorita.engine.kernels.score_rule import Scores
from lorita.engine.lora_linear import Group, Member

OUTPUTS = ("o_proj", "out_proj", "dense", "c_proj")
GATES = {
    "SiLUActivation": "silu",
    "SiLU": "silu",
    "GELUTanh": "gelu_tanh",
    "PytorchGELUTanh": "gelu_tanh",
    "NewGELUActivation": "gelu_tanh",
}


class Unsuited(Exception):
    """This module is not what the engine knows; the text says why."""


def member(module: nn.Module) -> Member:
    """A linear layer, with or without PEFT's plain LoRA around it; else ``Unsuited``."""
    from peft.tuners.lora import Linear as LoraLinear

    if not isinstance(module, LoraLinear):
        return Member(_plain(module))
    layer: Any = module
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    if len(active) != 1:
        raise Unsuited(f"{len(active)} adapters are active")
    (name,) = active
    if layer.lora_variant.get(name) is not None:
        raise Unsuited(f"{type(layer.lora_variant[name]).__name__} has a forward of its own")
    if getattr(layer, "lora_bias", {}).get(name):
        raise Unsuited("lora_bias is not covered")
    if not isinstance(layer.lora_dropout[name], (nn.Dropout, nn.Identity)):
        raise Unsuited("its dropout is of an unknown kind")
    return Member(_plain(layer.get_base_layer()), layer, name)


def is_plain_linear(module: nn.Module) -> bool:
    """A linear layer without anything around it: ``nn.Linear``, transformers' ``Conv1D``."""
    from transformers.pytorch_utils import Conv1D

    return type(module) in (nn.Linear, Conv1D) or type(module).__name__ == "FalconLinear"


def weight_of(linear: nn.Module) -> Tensor:
    """A plain linear layer's weight as [outputs, inputs]; ``Conv1D`` keeps it the other way."""
    weight: Tensor = linear.weight  # type: ignore[assignment]
    return weight.t() if hasattr(linear, "nf") else weight


def _plain(module: nn.Module) -> nn.Module:
    if not is_plain_linear(module):
        raise Unsuited(f"{type(module).__name__} is no plain linear layer")
    weight: Any = module.weight
    if weight.requires_grad:
        raise Unsuited("its weight is trained")
    if weight.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise Unsuited(f"its weight is {weight.dtype}")
    return module


def group(modules: Sequence[nn.Module]) -> Group:
    """Layers that take the same input as one product; ``Unsuited`` if they do not go together."""
    members = [member(module) for module in modules]
    weights: list[Any] = [m.base.weight for m in members]
    if len(members) > 1 and any(hasattr(m.base, "nf") for m in members):
        raise Unsuited("Conv1D layers are not joined")
    if len({(weight.dtype, weight.device) for weight in weights}) > 1:
        raise Unsuited("the layers differ in dtype or device")
    drops = {m.layer.lora_dropout[m.adapter].p for m in members if _drops(m)}  # type: ignore
    if len(drops) > 1:
        raise Unsuited("the layers differ in dropout")
    return Group(members)


def _drops(m: Member) -> bool:
    layer: Any = m.layer
    return layer is not None and isinstance(layer.lora_dropout[m.adapter], nn.Dropout)


@dataclass(frozen=True)
class AttentionPlan:
    """How an attention module computes: products, heads, norms, scores."""

    inputs: Group
    parts: tuple[Part, ...]
    """Queries, keys, values in the products' output."""
    norms: tuple[nn.Module | None, nn.Module | None]
    norm_whole: bool
    """The norms go over all heads at once (OLMo 2), not over each head."""
    scores: Scores
    output: nn.Module
    dropout: float
    adds_residual: bool
    """BLOOM's attention returns its output plus the residual."""


def attention_plan(module: Any) -> AttentionPlan:
    """``Unsuited`` where this is no attention module of a known build."""
    output = next((getattr(module, name) for name in OUTPUTS if hasattr(module, name)), None)
    d = getattr(module, "head_dim", None) or getattr(module, "head_size", None)
    if output is None or not isinstance(d, int):
        raise Unsuited("it has no output projection or head size of a known name")
    if _attention_dropout(module) > 0:
        raise Unsuited("it drops attention weights")
    config = getattr(module, "config", None)
    inputs, parts = _projections(module, d, config)
    slopes = _alibi_slopes(module, config, parts[0].heads, d)
    if slopes is not None:  # Falcon hands rotary angles over even where it does not use them
        parts = tuple(replace(part, rotate=False) for part in parts)
    scale = getattr(module, "scaling", None) or getattr(module, "inv_norm_factor", None)
    if not isinstance(scale, float):
        raise Unsuited("the scale of its scores is unknown")
    window = getattr(module, "sliding_window", getattr(config, "sliding_window", None))
    q_norm, k_norm = getattr(module, "q_norm", None), getattr(module, "k_norm", None)
    heads = parts[0].heads
    whole = q_norm is not None and q_norm.weight.numel() == heads * d and heads > 1
    return AttentionPlan(
        inputs=inputs,
        parts=parts,
        norms=(q_norm, k_norm),
        norm_whole=whole,
        scores=Scores(
            scale,
            window if isinstance(window, int) else None,
            getattr(module, "attn_logit_softcapping", None),
            slopes,
        ),
        output=output,
        dropout=_output_dropout(module),
        adds_residual=type(module).__name__.startswith("Bloom"),
    )


def _attention_dropout(module: Any) -> float:
    value: Any = getattr(module, "attention_dropout", None)
    value = getattr(module, "attn_dropout", 0.0) if value is None else value
    return float(value.p) if isinstance(value, nn.Dropout) else float(value)


def _output_dropout(module: Any) -> float:
    drop = getattr(module, "resid_dropout", None)
    if isinstance(drop, nn.Dropout):
        return float(drop.p)
    if type(module).__name__.startswith("Bloom"):
        return float(module.hidden_dropout)
    return float(getattr(module, "residual_dropout", 0.0))


def _projections(module: Any, d: int, config: Any) -> tuple[Group, tuple[Part, ...]]:
    """The products for queries, keys and values, and where their heads lie in the output."""
    if hasattr(module, "q_proj"):
        inputs = group([module.q_proj, module.k_proj, module.v_proj])
        sizes = inputs.sizes
    elif hasattr(module, "qkv_proj"):  # queries, then keys, then values
        inputs = group([module.qkv_proj])
        kv = config.num_key_value_heads * d
        sizes = [inputs.sizes[0] - 2 * kv, kv, kv]
    elif hasattr(module, "c_attn") and not getattr(module, "is_cross_attention", False):
        inputs = group([module.c_attn])
        sizes = [inputs.sizes[0] // 3] * 3
    elif hasattr(module, "query_key_value"):
        inputs = group([module.query_key_value])
        return inputs, _interleaved(module, inputs.sizes[0] // d, d)
    else:
        raise Unsuited("its input projections have unknown names")
    heads, kv_heads = sizes[0] // d, sizes[1] // d
    per_group = heads // kv_heads
    return inputs, (
        Part(0, heads, per_group, per_group * d, d, rotate=True),
        Part(sizes[0], kv_heads, 1, d, d, rotate=True),
        Part(sizes[0] + sizes[1], kv_heads, 1, d, d),
    )


def _interleaved(module: Any, blocks: int, d: int) -> tuple[Part, ...]:
    """Query heads, key and value of one group after another: BLOOM, GPT-NeoX, Falcon."""
    per_group = 1
    if getattr(module, "new_decoder_architecture", False):
        per_group = module.num_heads // module.num_kv_heads
    elif getattr(module, "multi_query", False):
        per_group = module.num_heads
    groups = blocks // (per_group + 2)
    stride = (per_group + 2) * d
    return (
        Part(0, groups * per_group, per_group, stride, d, rotate=True),
        Part(per_group * d, groups, 1, stride, d, rotate=True),
        Part((per_group + 1) * d, groups, 1, stride, d),
    )


def _alibi_slopes(module: Any, config: Any, heads: int, d: int) -> Tensor | None:
    """Slopes of the linear bias (Press et al., 2022) where the family has one."""
    is_bloom = type(module).__name__.startswith("Bloom")
    is_falcon = type(module).__name__.startswith("Falcon")
    if not (is_bloom or (is_falcon and getattr(config, "alibi", False))):
        return None
    power = 2 ** (heads.bit_length() - 1)  # the largest power of two not above heads
    slopes = [2.0 ** (-8.0 * (i + 1) / power) for i in range(power)]
    slopes += [2.0 ** (-4.0 * (2 * i + 1) / power) for i in range(heads - power)]
    scale = d**-0.5 if is_falcon else 1.0  # Falcon scales the bias with the scores
    return torch.tensor(slopes) * scale


@dataclass(frozen=True)
class GatedPlan:
    """``output(act(gate) · up)``, gate and up as one product."""

    inputs: Group
    kind: str
    output: nn.Module


def gated_plan(module: Any) -> GatedPlan:
    """``Unsuited`` where this is no gated MLP of a known build."""
    act = getattr(module, "act_fn", None) or getattr(module, "activation_fn", None)
    kind = GATES.get(type(act).__name__)
    if kind is None:
        raise Unsuited(f"its activation {type(act).__name__} has no kernel")
    if not hasattr(module, "down_proj"):
        raise Unsuited("it has no down_proj")
    if hasattr(module, "gate_up_proj"):
        return GatedPlan(group([module.gate_up_proj]), kind, module.down_proj)
    if not (hasattr(module, "gate_proj") and hasattr(module, "up_proj")):
        raise Unsuited("its projections have unknown names")
    return GatedPlan(group([module.gate_proj, module.up_proj]), kind, module.down_proj)


def is_rms_norm(module: nn.Module) -> bool:
    """A norm by the mean square with one frozen weight and nothing else."""
    weight = getattr(module, "weight", None)
    return (
        type(module).__name__.endswith("RMSNorm")
        and isinstance(weight, Tensor)
        and not weight.requires_grad
        and norm_eps(module) is not None
        and getattr(module, "bias", None) is None
    )


def norm_eps(module: nn.Module) -> float | None:
    for name in ("variance_epsilon", "eps", "epsilon"):
        value = getattr(module, name, None)
        if isinstance(value, float):
            return value
    return None
