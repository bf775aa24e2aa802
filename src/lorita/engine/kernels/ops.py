"""Norms, activations and linear layers with backward passes of their own.

Norms and activations compute in float32 and round once, at the end: by one native kernel on a CPU
with a compiler, by a few lines of torch elsewhere. ``reference.py`` says what each computes.
Weights are frozen: only inputs and biases get a gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lorita.engine.autocast import own_formats
from lorita.engine.kernels.native import kernel
from lorita.engine.kernels.products import (
    RoundedWeight,
    onednn_float32,
    product,
    product_back,
    widened,
)

KINDS = {"silu": 0, "gelu_tanh": 1}
"""The native kernels' numbers for the activations."""


def rms_norm(x: Tensor, weight: Tensor, eps: float, *, plus_one: bool = False) -> Tensor:
    """RMS norm over the last dimension, for any leading shape; see ``reference.rms_norm``."""
    return _RMSNorm.apply(x, weight, eps, plus_one)  # type: ignore[no-any-return]


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, plus_one: bool) -> Tensor:
        x = x.contiguous()
        ctx.plus_one = plus_one
        out, rstd = rms_normed(x, weight, eps, plus_one=plus_one)
        ctx.save_for_backward(x, weight, rstd)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        x, weight, rstd = ctx.saved_tensors
        grad = grad.contiguous()
        run = kernel("rms_norm_back", x) if weight.dtype == x.dtype else None
        if run is not None:
            out = torch.empty_like(x)
            run(
                grad.data_ptr(), x.data_ptr(), weight.data_ptr(), rstd.data_ptr(), out.data_ptr(),
                rstd.numel(), x.shape[-1], ctx.plus_one,
            )  # fmt: skip
            return out, None, None, None
        rstd = rstd.view(*x.shape[:-1], 1)
        weighted = grad.float() * (weight.float() + float(ctx.plus_one))
        normed = x.float() * rstd
        out = rstd * (weighted - normed * (weighted * normed).mean(-1, keepdim=True))
        return out.to(x.dtype), None, None, None


def rms_normed(
    x: Tensor, weight: Tensor, eps: float, *, plus_one: bool = False
) -> tuple[Tensor, Tensor]:
    """``rms_norm`` without a gradient, and ``1 / rms(x)`` of each row in float32."""
    x = x.contiguous()
    run = kernel("rms_norm", x) if weight.dtype == x.dtype else None
    if run is None:
        wide = x.float()
        rstd = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
        return (wide * rstd * (weight.float() + float(plus_one))).to(x.dtype), rstd
    out = torch.empty_like(x)
    width = x.shape[-1]
    rstd = torch.empty(x.numel() // width, dtype=torch.float32)
    run(
        x.data_ptr(), weight.data_ptr(), out.data_ptr(), rstd.data_ptr(),
        rstd.numel(), width, eps, plus_one,
    )  # fmt: skip
    return out, rstd


def gated_activation(gate_up: Tensor, kind: str) -> Tensor:
    """``act(gate) · up`` of a [..., 2·I] tensor, gate before up; returns [..., I].

    ``kind`` is ``silu`` or ``gelu_tanh``.
    """
    return _Gated.apply(gate_up, kind)  # type: ignore[no-any-return]


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor, kind: str) -> Tensor:
        gate_up = gate_up.contiguous()
        ctx.save_for_backward(gate_up)
        ctx.kind = kind
        return gated(gate_up, kind)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (gate_up,) = ctx.saved_tensors
        width = gate_up.shape[-1] // 2
        run = kernel("gated_back", gate_up)
        if run is None:
            with torch.enable_grad():
                wide = gate_up.float().requires_grad_()
                gate, up = wide.split(width, dim=-1)
                (out,) = torch.autograd.grad(_activate(gate, ctx.kind) * up, wide, grad.float())
            return out.to(gate_up.dtype), None
        grad = grad.contiguous()
        out = torch.empty_like(gate_up)
        gate_at, out_at, half = gate_up.data_ptr(), out.data_ptr(), width * gate_up.itemsize
        run(
            grad.data_ptr(), gate_at, gate_at + half, out_at, out_at + half,
            grad.numel() // width, width, 2 * width, KINDS[ctx.kind],
        )  # fmt: skip
        return out, None


def gated(gate_up: Tensor, kind: str) -> Tensor:
    """``gated_activation`` of a contiguous tensor, without a gradient."""
    width = gate_up.shape[-1] // 2
    run = kernel("gated", gate_up)
    if run is None:
        gate, up = gate_up.float().split(width, dim=-1)
        return (_activate(gate, kind) * up).to(gate_up.dtype)
    out = gate_up.new_empty(*gate_up.shape[:-1], width)
    gate_at = gate_up.data_ptr()
    up_at = gate_at + width * gate_up.itemsize
    run(gate_at, up_at, out.data_ptr(), out.numel() // width, width, 2 * width, KINDS[kind])
    return out


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU in its tanh form (Hendrycks & Gimpel, 2016), for any shape."""
    return _GeluTanh.apply(x)  # type: ignore[no-any-return]


class _GeluTanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x)
        run = kernel("gelu", x)
        if run is None:
            return functional.gelu(x, approximate="tanh")
        out = torch.empty_like(x)
        run(x.data_ptr(), out.data_ptr(), x.numel())
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        grad = grad.contiguous()
        run = kernel("gelu_back", x)
        if run is None:
            return torch.ops.aten.gelu_backward(grad, x, approximate="tanh")  # type: ignore[no-any-return]
        out = torch.empty_like(x)
        run(grad.data_ptr(), x.data_ptr(), out.data_ptr(), x.numel())
        return out


def _activate(x: Tensor, kind: str) -> Tensor:
    return functional.silu(x) if kind == "silu" else functional.gelu(x, approximate="tanh")


def column_sums(x_TN: Tensor) -> Tensor:
    """The sum over T of each column, float32 [N]; without a gradient."""
    run = kernel("column_sums", x_TN)
    if run is None or x_TN.stride(1) != 1:
        return x_TN.sum(0, dtype=torch.float32)
    out = torch.empty(x_TN.shape[1], dtype=torch.float32)
    run(x_TN.data_ptr(), out.data_ptr(), *x_TN.shape, x_TN.stride(0))
    return out


def frozen_linear(x: Tensor, weight: Tensor | RoundedWeight, bias: Tensor | None) -> Tensor:
    """A linear layer with a frozen weight: ``x·Wᵀ + bias`` for any leading shape of x."""
    if onednn_float32(x) or widened(x) or not isinstance(weight, Tensor):
        # Reshaped out here: a model may add to the result in place, which autograd forbids for a
        # view made inside the function.
        out = _FrozenLinear.apply(x.reshape(-1, x.shape[-1]), weight, bias)
        return out.view(*x.shape[:-1], -1)  # type: ignore[no-any-return]
    return functional.linear(x, weight, bias)


class _FrozenLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_TI: Tensor, weight: Tensor | RoundedWeight, bias: Tensor | None
    ) -> Tensor:
        ctx.weight = weight  # frozen: it does not change before the backward pass
        ctx.has_bias = bias is not None and bias.requires_grad
        return product(x_TI, weight, bias)

    @staticmethod
    @own_formats
    def backward(ctx: Any, grad_TO: Tensor) -> tuple[Tensor | None, None, Tensor | None]:  # type: ignore[override]
        grad_bias = column_sums(grad_TO) if ctx.has_bias else None
        grad_TI = product_back(grad_TO, ctx.weight) if ctx.needs_input_grad[0] else None
        return grad_TI, None, grad_bias
