"""Cross-entropy from hidden states: output head, loss and gradient in one pass, chunk by chunk.

The logits of all positions never exist at once, and never in float32: with a vocabulary of 250,880
they would be several times larger than any other tensor of the step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lorita.engine.kernels.kept import Kept
from lorita.engine.kernels.native import kernel
from lorita.engine.kernels.products import QuantisedWeight, product, product_back, widened

CHUNK_BYTES = 64 * 2**20
"""Logits of a chunk."""
LEAST_CHUNK = 256
"""Positions of a chunk, whatever their logits take: fewer would make the products slow."""
LEAST_OF_BLOCKS = 512
"""The same where the head is expanded for each chunk."""


def cross_entropy_sum(
    hidden_ND: Tensor,
    weight_VD: Tensor | QuantisedWeight,
    targets_N: Tensor,
    *,
    bias: Tensor | None = None,
    softcap: float | None = None,
    logit_scale: float = 1.0,
) -> Tensor:
    """The loss in nats summed over N positions, float32; see ``reference.cross_entropy_sum``.

    The head (``weight_VD``, ``bias``) is frozen; only ``hidden_ND`` gets a gradient. ``ValueError``
    if ``logit_scale`` is not positive.
    """
    if logit_scale <= 0:
        raise ValueError(f"logit_scale = {logit_scale}: should be positive")
    return _CrossEntropySum.apply(  # type: ignore[no-any-return]
        hidden_ND, weight_VD, targets_N, bias, softcap or 0.0, float(logit_scale)
    )


class _CrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor | QuantisedWeight,
        targets_N: Tensor,
        bias: Tensor | None,
        cap: float,
        scale: float,
    ) -> Tensor:
        needs_grad = ctx.needs_input_grad[0]
        grad_ND = torch.empty_like(hidden_ND) if needs_grad else None
        total = torch.zeros((), dtype=torch.float64, device=hidden_ND.device)
        least = LEAST_CHUNK if isinstance(weight_VD, Tensor) else LEAST_OF_BLOCKS
        for here in _chunks(len(hidden_ND), weight_VD.shape[0] * hidden_ND.itemsize, least):
            logits_CV = _logits(hidden_ND[here], weight_VD)
            if bias is not None:
                logits_CV += bias
            losses_C, slope_CV = _loss_and_slope(logits_CV, targets_N[here], scale, cap, needs_grad)
            total += losses_C.double().sum()
            if grad_ND is not None:
                grad_ND[here] = product_back(slope_CV, weight_VD)
            del logits_CV, slope_CV  # or they would coexist with those of the next chunk
        if grad_ND is not None:
            ctx.save_for_backward(grad_ND)
        return total.float()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None, None]:  # type: ignore[override]
        (grad_ND,) = ctx.saved_tensors
        # 1/targets is not exact in bf16: scale in float32 and round once.
        scaled = (grad_ND.float() * grad).to(grad_ND.dtype)
        return scaled, None, None, None, None, None


def _chunks(positions: int, bytes_each: int, least: int) -> Iterator[slice]:
    """Slices of nearly equal length: a short last one would make a slow product."""
    count = math.ceil(positions / max(CHUNK_BYTES // bytes_each, least))
    for i in range(count):
        yield slice(i * positions // count, (i + 1) * positions // count)


_kept = Kept()


def _logits(hidden_CD: Tensor, weight_VD: Tensor | QuantisedWeight) -> Tensor:
    """The head's product, in kept memory where the product can write to given memory."""
    wide = hidden_CD.dtype == torch.float32 or widened(hidden_CD)
    if not isinstance(weight_VD, Tensor) or hidden_CD.device.type != "cpu" or wide:
        return product(hidden_CD, weight_VD)
    out_CV = _kept.empty((len(hidden_CD), len(weight_VD)), hidden_CD.dtype)
    return torch.mm(hidden_CD, weight_VD.t(), out=out_CV)


def _loss_and_slope(
    logits_CV: Tensor, targets_C: Tensor, scale: float, cap: float, needs_grad: bool
) -> tuple[Tensor, Tensor]:
    """Losses of a chunk, and the gradient of their sum, which overwrites the logits."""
    run = kernel("cross_entropy", logits_CV)
    if run is not None:
        losses_C = torch.empty(len(logits_CV), dtype=torch.float32)
        run(
            logits_CV.data_ptr(), targets_C.contiguous().data_ptr(), losses_C.data_ptr(),
            *logits_CV.shape, scale, cap, needs_grad,
        )  # fmt: skip
        return losses_C, logits_CV
    wide = logits_CV.float() * scale
    if cap:
        wide = cap * torch.tanh(wide / cap)
    losses_C = functional.cross_entropy(wide, targets_C, reduction="none")
    slope = wide.softmax(-1)
    slope[torch.arange(len(slope)), targets_C] -= 1.0
    if cap:
        slope *= 1 - (wide / cap) ** 2
    return losses_C, (slope * scale).to(logits_CV.dtype)
