"""Recognise the parts of a transformers model that the engine can compute faster.

By their attributes, not by a list of models: a new family with the structure of a known one is
recognised. What structure does not show is in ``families.py``. Whether the parts were recognised
correctly is checked with numbers (``speedup.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lorita.engine.families import ACTIVATIONS, Family
from lorita.engine.kernels.head_layout import Part
from lorita.engine.kernels.reference import rms_norm
from lorita.engine.kernels.score_rule import Scores
from lorita.engine.plans import AttentionPlan, GatedPlan, NormPlan, Unsuited

Join = Callable[[Sequence[nn.Module]], Any]
"""Makes one product of layers with the same input; ``Unsuited`` if it cannot."""
INPUTS = ("q_proj", "qkv_proj", "query_key_value", "c_attn")
OUTPUTS = ("o_proj", "out_proj", "dense", "c_proj")


def looks_like_attention(module: nn.Module) -> bool:
    """Whether this should be an attention module, whatever ``attention_plan`` makes of it."""
    return "Attention" in type(module).__name__ and any(hasattr(module, name) for name in INPUTS)


def attention_plan(module: Any, family: Family, join: Join) -> AttentionPlan:
    """How an attention module computes; ``Unsuited`` if its structure is unknown.

    ``join`` makes one product of layers with the same input.
    """
    output = next((getattr(module, name) for name in OUTPUTS if hasattr(module, name)), None)
    d = getattr(module, "head_dim", None) or getattr(module, "head_size", None)
    if output is None or not isinstance(d, int):
        raise Unsuited("its output projection or head size has an unknown name")
    if _rate(module, ("attention_dropout", "attn_dropout")) > 0:
        raise Unsuited("it drops attention weights")
    config = getattr(module, "config", None)
    width = _width(output)
    inputs, parts = _projections(module, family, d, config, join)
    gated = False
    if width is not None and parts[0].heads * d == 2 * width:
        gated = True
        parts = _one_after_another([width, *(part.heads * d for part in parts[1:])], d)
    heads = parts[0].heads
    slopes = None
    if family.has_alibi(config):
        slopes = _alibi_slopes(heads, d**-0.5 if family.scales_alibi else 1.0)
        # Falcon passes rotary angles even where it does not use them.
        parts = tuple(replace(part, rotate=False) for part in parts)
    scale = getattr(module, "scaling", None) or getattr(module, "inv_norm_factor", None)
    if not isinstance(scale, float):
        raise Unsuited("the scale of its scores is unknown")
    window = getattr(module, "sliding_window", getattr(config, "sliding_window", None))
    softcap = getattr(module, "attn_logit_softcapping", None)
    q_norm, k_norm = _norms(module)
    _require_nothing_else(module, output, (q_norm, k_norm))
    if width not in (None, heads * d):
        raise Unsuited("its output projection takes something else than its heads")
    if not getattr(module, "use_rope", True):
        parts = tuple(replace(part, rotate=False) for part in parts)
    return AttentionPlan(
        inputs=inputs,
        parts=parts,
        norms=(q_norm, k_norm),
        norm_whole=q_norm is not None and q_norm.weight.numel() == heads * d and heads > 1,
        scores=Scores(scale, window if isinstance(window, int) else None, softcap, slopes),
        output=output,
        dropout=_rate(module, family.output_dropout),
        adds_residual=family.adds_residual,
        gated=gated,
    )


def _norms(module: Any) -> tuple[nn.Module | None, nn.Module | None]:
    """The norms of queries and keys."""
    for names in (("q_norm", "k_norm"), ("q_layernorm", "k_layernorm")):
        if hasattr(module, names[0]):
            return getattr(module, names[0]), getattr(module, names[1], None)
    return None, None


def _require_nothing_else(
    module: nn.Module, output: nn.Module, norms: Sequence[nn.Module | None]
) -> None:
    """``Unsuited`` if an attention module has a part that the plan does not know.

    Such as sinks, a norm of the values, or a gate.
    """
    known = {
        output,
        *norms,
        *(getattr(module, name, None) for name in (*INPUTS, "k_proj", "v_proj")),
    }
    for name, child in module.named_children():
        if child not in known and not isinstance(child, nn.Dropout) and _has_numbers(child):
            raise Unsuited(f"it has a part of unknown use ({name})")
    own = [*dict(module.named_parameters(recurse=False))]
    if own:
        raise Unsuited(f"it has a part of unknown use ({own[0]})")


def _has_numbers(module: nn.Module) -> bool:
    """Whether it is more than a rotation or the like: it has a parameter, or norms its input."""
    return "Norm" in type(module).__name__ or any(True for _ in module.parameters())


def _width(layer: Any) -> int | None:
    """How many inputs a linear layer takes; None where that is not known."""
    layer = layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer
    return getattr(layer, "in_features", None)


def _rate(module: Any, names: Sequence[str]) -> float:
    """The dropout rate in the first of these attributes that exists, as a number or a module."""
    values = (getattr(module, name, None) for name in names)
    value: Any = next((value for value in values if value is not None), 0.0)
    return float(getattr(value, "p", 0.0) if isinstance(value, nn.Module) else value)


def _projections(
    module: Any, family: Family, d: int, config: Any, join: Join
) -> tuple[Any, tuple[Part, ...]]:
    """The projections to queries, keys and values, and where their heads are in the output."""
    if hasattr(module, "q_proj"):
        inputs = join([module.q_proj, module.k_proj, module.v_proj])
        sizes = inputs.sizes
    elif hasattr(module, "qkv_proj"):  # queries, then keys, then values
        inputs = join([module.qkv_proj])
        kv = config.num_key_value_heads * d
        sizes = [inputs.sizes[0] - 2 * kv, kv, kv]
    elif hasattr(module, "c_attn") and not getattr(module, "is_cross_attention", False):
        inputs = join([module.c_attn])
        sizes = [inputs.sizes[0] // 3] * 3
    elif hasattr(module, "query_key_value"):
        inputs = join([module.query_key_value])
        return inputs, _interleaved(family.query_heads(module), inputs.sizes[0] // d, d)
    else:
        raise Unsuited("its input projections have unknown names")
    return inputs, _one_after_another(sizes, d)


def _one_after_another(sizes: Sequence[int], d: int) -> tuple[Part, ...]:
    """Queries, then keys, then values, of these widths."""
    heads, kv_heads = sizes[0] // d, sizes[1] // d
    per_group = heads // kv_heads
    return (
        Part(0, heads, per_group, per_group * d, d, rotate=True),
        Part(sizes[0], kv_heads, 1, d, d, rotate=True),
        Part(sizes[0] + sizes[1], kv_heads, 1, d, d),
    )


def _interleaved(per_group: int, heads: int, d: int) -> tuple[Part, ...]:
    """Query heads, key and value of one group after another: BLOOM, GPT-NeoX, Falcon.

    ``heads`` is how many there are of all three kinds together.
    """
    groups = heads // (per_group + 2)
    stride = (per_group + 2) * d
    return (
        Part(0, groups * per_group, per_group, stride, d, rotate=True),
        Part(per_group * d, groups, 1, stride, d, rotate=True),
        Part((per_group + 1) * d, groups, 1, stride, d),
    )


def _alibi_slopes(heads: int, scale: float) -> Tensor:
    """Slopes of the linear biases (Press et al., 2022) times ``scale``, [heads]."""
    power = 2 ** (heads.bit_length() - 1)  # the largest power of two that is at most heads
    slopes = [2.0 ** (-8.0 * (i + 1) / power) for i in range(power)]
    slopes += [2.0 ** (-4.0 * (2 * i + 1) / power) for i in range(heads - power)]
    return torch.tensor(slopes) * scale


def looks_like_gated(module: nn.Module) -> bool:
    """Whether this should be a gated MLP, whatever ``gated_plan`` makes of it."""
    return hasattr(module, "down_proj") and (
        hasattr(module, "gate_up_proj") or hasattr(module, "gate_proj")
    )


def gated_plan(module: Any, join: Join) -> GatedPlan:
    """How a gated MLP computes; ``Unsuited`` if its structure is unknown. ``join`` as above."""
    act = getattr(module, "act_fn", None) or getattr(module, "activation_fn", None)
    kind = ACTIVATIONS.get(type(act).__name__)
    if kind is None:
        raise Unsuited(f"its activation {type(act).__name__} has no kernel")
    if hasattr(module, "gate_up_proj"):
        return GatedPlan(join([module.gate_up_proj]), kind, module.down_proj)
    if not hasattr(module, "up_proj"):
        raise Unsuited("its projections have unknown names")
    return GatedPlan(join([module.gate_proj, module.up_proj]), kind, module.down_proj)


def looks_like_rms_norm(module: nn.Module) -> bool:
    """Whether this should be a root-mean-square norm with a frozen weight."""
    weight = getattr(module, "weight", None)
    return (
        type(module).__name__.endswith("RMSNorm")
        and isinstance(weight, Tensor)
        and not weight.requires_grad
    )


def norm_plan(module: Any) -> NormPlan:
    """How a root-mean-square norm computes; ``Unsuited`` if it does anything else."""
    eps = _norm_eps(module)
    if eps is None or getattr(module, "bias", None) is not None:
        raise Unsuited("its epsilon has an unknown name, or it has a bias")
    weight = module.weight.detach()
    generator = torch.Generator().manual_seed(0)
    x_2D = torch.randn(2, len(weight), generator=generator).to(weight)
    with torch.no_grad():
        own_2D = module(x_2D).float()
    for plus_one in (False, True):
        fast_2D = rms_norm(x_2D, weight, eps, plus_one=plus_one).float()
        if (fast_2D - own_2D).norm() <= 2e-2 * own_2D.norm():
            return NormPlan(eps, plus_one)
    raise Unsuited("it computes something else than x / rms(x) · weight")


def _norm_eps(module: nn.Module) -> float | None:
    for name in ("variance_epsilon", "eps", "epsilon"):
        value = getattr(module, name, None)
        if isinstance(value, float):
            return value
    return None


def is_gelu_tanh(module: nn.Module) -> bool:
    """Whether this is GELU in its tanh form."""
    return ACTIVATIONS.get(type(module).__name__) == "gelu_tanh"
