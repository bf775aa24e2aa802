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


def cross_entropy_sum(
    hidden_ND: Tensor,
    weight_VD: Tensor | QuantisedWeight,
    targets_N: Tensor,
    *,
    bias: Tensor | None = None,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    rows: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The loss in nats summed over N positions, float32; see ``reference.cross_entropy_sum``.

    The head (``weight_VD``, ``bias``) is frozen. ``rows`` are tokens [R] and the weights [R, D]
    that take the place of theirs; these and ``hidden_ND`` get gradients. ``ValueError`` if
    ``logit_scale`` is not positive.
    """
    if logit_scale <= 0:
        raise ValueError(f"logit_scale = {logit_scale}: should be positive")
    ids_R, rows_RD = (None, None) if rows is None else rows
    return _CrossEntropySum.apply(  # type: ignore[no-any-return]
        hidden_ND, weight_VD, targets_N, bias, softcap or 0.0, float(logit_scale), ids_R, rows_RD
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
        ids_R: Tensor | None,
        rows_RD: Tensor | None,
    ) -> Tensor:
        needs_grad = any(ctx.needs_input_grad)
        grad_ND = torch.empty_like(hidden_ND) if needs_grad else None
        own = None if ids_R is None or rows_RD is None else _OwnRows(ids_R, rows_RD, hidden_ND)
        total = torch.zeros((), dtype=torch.float64, device=hidden_ND.device)
        for here in _chunks(len(hidden_ND), weight_VD.shape[0] * hidden_ND.itemsize):
            logits_CV = _logits(hidden_ND[here], weight_VD)
            if own is not None:
                own.write(logits_CV, hidden_ND[here])
            if bias is not None:
                logits_CV += bias
            losses_C, slope_CV = _loss_and_slope(logits_CV, targets_N[here], scale, cap, needs_grad)
            total += losses_C.double().sum()
            if grad_ND is not None:
                more_CD = own.gradients(slope_CV, hidden_ND[here]) if own is not None else None
                grad_ND[here] = product_back(slope_CV, weight_VD)
                if more_CD is not None:
                    grad_ND[here] += more_CD
            del logits_CV, slope_CV  # or they would coexist with those of the next chunk
        if grad_ND is not None:
            ctx.save_for_backward(grad_ND, *([own.grad_RD] if own is not None else []))
        return total.float()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        grad_ND, *of_rows = ctx.saved_tensors
        # 1/targets is not exact in bf16: scale in float32 and round once.
        scaled = (grad_ND.float() * grad).to(grad_ND.dtype)
        d_rows = of_rows[0] * grad if of_rows else None
        return scaled, None, None, None, None, None, None, d_rows


class _OwnRows:
    """Rows of the head that are not those of the frozen matrix, and their gradient in float32."""

    def __init__(self, ids_R: Tensor, rows_RD: Tensor, like: Tensor) -> None:
        self.ids_R, self.rows_RD = ids_R, rows_RD.to(like.dtype)
        self.grad_RD = torch.zeros_like(rows_RD, dtype=torch.float32)

    def write(self, logits_CV: Tensor, hidden_CD: Tensor) -> None:
        """Put the logits of these rows in the place of the matrix's."""
        logits_CV[:, self.ids_R] = product(hidden_CD, self.rows_RD)

    def gradients(self, slope_CV: Tensor, hidden_CD: Tensor) -> Tensor:
        """Their part of the hidden states' gradient [C, D]; takes their slopes out.

        Their own gradient is added up.
        """
        slope_CR = slope_CV[:, self.ids_R]
        slope_CV[:, self.ids_R] = 0.0
        self.grad_RD += product(slope_CR.t().contiguous(), hidden_CD.t()).float()
        return product(slope_CR, self.rows_RD.t())


def _chunks(positions: int, bytes_each: int) -> Iterator[slice]:
    """Slices of nearly equal length: a short last one would make a slow product."""
    count = math.ceil(positions / max(CHUNK_BYTES // bytes_each, LEAST_CHUNK))
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
