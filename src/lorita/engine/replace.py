"""Walk through a model and put the fast forwards in place; remember how to take them out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from lorita.engine import forwards
from lorita.engine.kernels.int8 import Int8Weight
from lorita.engine.kernels.ops import gelu_tanh
from lorita.engine.lora_linear import Group
from lorita.engine.recognise import (
    Unsuited,
    attention_plan,
    gated_plan,
    group,
    is_plain_linear,
    is_rms_norm,
    norm_eps,
    weight_of,
)
from lorita.engine.report import SpeedupReport

GELU_TANH = ("BloomGelu", "NewGELUActivation", "GELUTanh", "FastGELUActivation")


@dataclass
class Replaced:
    """The forwards that were set on one model, and what they share."""

    state: forwards.State = field(default_factory=forwards.State)
    modules: list[tuple[nn.Module, Any]] = field(default_factory=list)
    packs_rows: bool = False
    groups: list[Group] = field(default_factory=list)
    _implementation: tuple[Any, str] | None = None
    _marked: list[nn.Module] = field(default_factory=list)

    def put(self, module: nn.Module, forward: Any) -> None:
        """Set ``module.forward`` on the instance."""
        module.forward = forward
        self.modules.append((module, forward))

    def use_interface(self, lm: Any) -> None:
        """Let the model's attention come through transformers' interface."""
        register_interface()
        for module in lm.modules():
            object.__setattr__(module, "_lorita", self.state)
            self._marked.append(module)
        self._implementation = (lm, lm.config._attn_implementation)
        lm.set_attn_implementation("lorita")

    def undo(self) -> None:
        """Take every forward out again."""
        for module, forward in self.modules:
            # Somebody may have put a forward of his own over ours (TRL does); that stays.
            if vars(module).get("forward") is forward:
                del module.forward
        for module in self._marked:
            vars(module).pop("_lorita", None)
        if self._implementation is not None:
            lm, name = self._implementation
            lm.set_attn_implementation(name)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Inside, the model computes as if nothing had been replaced."""
        layout, self.state.layout = self.state.layout, None
        for module, _ in self.modules:
            vars(module).pop("forward", None)
        try:
            yield
        finally:
            self.state.layout = layout
            for module, forward in self.modules:
                module.forward = forward


def register_interface() -> None:
    """Make the name ``lorita`` known to transformers' attention and mask registries."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    from lorita.engine.kernels.row_layout import current_layout

    def mask(*args: Any, **kwargs: Any) -> Any:
        # Rows that lie end to end need no mask: the attention keeps to them by itself.
        return None if current_layout() is not None else sdpa_mask(*args, **kwargs)

    AttentionInterface.register("lorita", forwards.interface_attention)
    AttentionMaskInterface.register("lorita", mask)


def replacements(
    lm: Any, without: tuple[str, ...], report: SpeedupReport, *, liger: bool = False
) -> Replaced:
    """Replace what is recognised, the kinds in ``without`` left out."""
    out = Replaced()
    grouped: set[nn.Module] = set()
    attentions = [m for name, m in lm.named_modules() if _looks_like_attention(name, m)]
    planned = 0
    for module in list(lm.modules()):
        original = module.forward
        try:
            if module in attentions:
                if "attention" in without:
                    continue
                plan = attention_plan(module)
                out.put(module, forwards.attention_forward(plan, out.state, original))
                out.groups.append(plan.inputs)
                grouped.update(m.layer for m in plan.inputs.members if m.layer is not None)
                planned += 1
                report.replaced["attention"] += 1
            elif _looks_like_gated(module) and "mlp" not in without:
                gated = gated_plan(module)
                out.put(module, forwards.gated_forward(gated, original, liger=liger))
                out.groups.append(gated.inputs)
                grouped.update(m.layer for m in gated.inputs.members if m.layer is not None)
                report.replaced["gated MLP"] += 1
            elif is_rms_norm(module) and "norm" not in without:
                plus_one = "Gemma" in type(module).__name__
                eps = norm_eps(module) or 0.0
                forward = forwards.norm_forward(module, eps, plus_one, original, liger=liger)
                out.put(module, forward)
                report.replaced["norm"] += 1
            elif type(module).__name__ in GELU_TANH and "activation" not in without:
                out.put(module, gelu_tanh)
                report.replaced["activation"] += 1
        except Unsuited as reason:
            report.left[f"{type(module).__name__}: {reason}"] += 1
    _linears(lm, out, grouped, report)
    out.packs_rows = planned == len(attentions) > 0
    if not out.packs_rows and "norm" not in without and _has_interface(lm):
        out.use_interface(lm)
        out.packs_rows = True
        report.replaced["attention (through transformers' interface)"] += len(attentions) - planned
    return out


def _linears(lm: Any, out: Replaced, grouped: set[nn.Module], report: SpeedupReport) -> None:
    """Single LoRA layers, and frozen float32 layers, which have a faster route."""
    from peft.tuners.lora import LoraLayer

    for module in lm.modules():
        if isinstance(module, LoraLayer) and module not in grouped:
            try:
                single = group([module])
                out.put(module, forwards.lora_forward(single, module.forward))
                out.groups.append(single)
                report.replaced["LoRA layer"] += 1
            except Unsuited as reason:
                report.left[f"LoRA layer: {reason}"] += 1
        elif isinstance(module, LoraLayer):
            report.replaced["LoRA layer (joined with those of the same input)"] += 1
    for module in frozen_linears(lm):
        if module.weight.dtype == torch.float32 and module.weight.device.type == "cpu":
            out.put(module, forwards.linear_forward(module, module.forward))


def frozen_linears(lm: Any) -> list[Any]:
    """Plain linear layers without an adapter, the output head aside."""
    from peft.tuners.lora import LoraLayer

    head = lm.get_output_embeddings()
    inside = {m for layer in lm.modules() if isinstance(layer, LoraLayer) for m in layer.modules()}
    return [
        module
        for module in lm.modules()
        if is_plain_linear(module)
        and module is not head
        and module not in inside
        and not module.weight.requires_grad
    ]


def use_int8(lm: Any, replaced: Replaced, report: SpeedupReport) -> None:
    """Let the products of the frozen layers run in 8-bit whole numbers; the head stays as it is."""
    joined = {member.base for known in replaced.groups for member in known.members}
    for known in replaced.groups:
        known.use_int8()
    alone = [module for module in frozen_linears(lm) if module not in joined]
    for module in alone:
        # Over the float32 route, if there is one: its original is the module's own.
        original = type(module).forward.__get__(module)
        forward = forwards.linear_forward(module, original, Int8Weight.of(weight_of(module)))
        replaced.put(module, forward)
    report.int8 = len(joined) + len(alone)


def _looks_like_attention(name: str, module: nn.Module) -> bool:
    return "Attention" in type(module).__name__ and any(
        hasattr(module, part) for part in ("q_proj", "qkv_proj", "query_key_value", "c_attn")
    )


def _looks_like_gated(module: nn.Module) -> bool:
    return hasattr(module, "down_proj") and (
        hasattr(module, "gate_up_proj") or hasattr(module, "gate_proj")
    )


def _has_interface(lm: Any) -> bool:
    """Whether the model takes its attention from transformers' registry."""
    return bool(getattr(lm, "_supports_attention_backend", False))
