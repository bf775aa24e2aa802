"""What the fast operations compute, in the plainest torch: for tests, in any dtype.

Each function is the twin of one elsewhere in the engine, with the same arguments and the same
result; autograd does the backward pass. Not used in training.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def rms_norm(x: Tensor, weight: Tensor, eps: float, *, plus_one: bool = False) -> Tensor:
    """``x / sqrt(mean(x²) + eps) · weight`` over the last dimension (Zhang & Sennrich, 2019)."""
    scaled = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
    return scaled * (weight + 1 if plus_one else weight)


def gated_activation(gate: Tensor, up: Tensor, kind: str) -> Tensor:
    """``act(gate) · up`` (Shazeer, 2020); kind is ``silu`` or ``gelu_tanh``."""
    if kind == "silu":
        return functional.silu(gate) * up
    return functional.gelu(gate, approximate="tanh") * up


def gelu_tanh(x: Tensor) -> Tensor:
    """``x/2 · (1 + tanh(√(2/π) · (x + 0.044715·x³)))``."""
    return 0.5 * x * (1 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x**3)))


def column_sums(x_TN: Tensor) -> Tensor:
    """The sum over T of each column."""
    return x_TN.sum(0)


def rotary(x_THd: Tensor, cos_Tf: Tensor, sin_Tf: Tensor) -> Tensor:
    """Rotary positions (Su et al., 2021) in halves, on the first ``2·f`` of ``d`` numbers."""
    f = cos_Tf.shape[-1]
    x, y, rest = x_THd[..., :f], x_THd[..., f : 2 * f], x_THd[..., 2 * f :]
    cos, sin = cos_Tf[:, None], sin_Tf[:, None]
    return torch.cat([x * cos - y * sin, y * cos + x * sin, rest], dim=-1)


def lora_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    lora_A: Tensor,
    lora_B: Tensor,
    scaling: float,
) -> Tensor:
    """``x·Wᵀ + bias + scaling · x·Aᵀ·Bᵀ`` (Hu et al., 2021)."""
    return functional.linear(x, weight, bias) + scaling * (x @ lora_A.T) @ lora_B.T


def int8_values(x: Tensor, largest: int = 127) -> Tensor:
    """``x`` [T, I] rounded to integers up to ``largest``, with a scale per row, in x's dtype."""
    scale = x.abs().amax(1, keepdim=True) / largest
    return torch.where(scale > 0, (x / scale).round() * scale, 0.0)


def int8_linear(x: Tensor, weight: Tensor, largest: int = 127) -> Tensor:
    """``x·Wᵀ`` of rounded x and W, which is rounded to 8 bits.

    ``int8_linear_back`` is its gradient, not autograd's.
    """
    return int8_values(x, largest) @ int8_values(weight).T


def int8_linear_back(grad: Tensor, weight: Tensor, largest: int = 127) -> Tensor:
    """The gradient of x: ``grad·W``, with the weight's scales multiplied in before rounding."""
    scale_O = weight.abs().amax(1) / 127
    return int8_values(grad * scale_O, largest) @ (weight / scale_O[:, None]).round()


def attention(
    q_THd: Tensor,
    k_TKd: Tensor,
    v_TKd: Tensor,
    lengths: Sequence[int],
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    alibi_slopes: Tensor | None = None,
) -> Tensor:
    """Causal attention within each of the packed rows; returns [T, H, d].

    ``window``: a query attends to itself and the ``window - 1`` positions before it. ``softcap``:
    scores become ``cap · tanh(score / cap)``. ``alibi_slopes`` [H]: ``slope · key position`` is
    added.
    """
    groups = q_THd.shape[1] // k_TKd.shape[1]
    outputs = []
    for q, k, v in zip(*(t.split(list(lengths)) for t in (q_THd, k_TKd, v_TKd)), strict=True):
        k, v = (t.repeat_interleave(groups, dim=1) for t in (k, v))
        scores = torch.einsum("qhd,khd->hqk", q, k) * scale
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        place = torch.arange(len(q), device=q.device)
        if alibi_slopes is not None:
            scores = scores + alibi_slopes.to(scores)[:, None, None] * place
        hidden = place[None, :] > place[:, None]
        if window is not None:
            hidden = hidden | (place[None, :] <= place[:, None] - window)
        weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
        outputs.append(torch.einsum("hqk,khd->qhd", weights, v))
    return torch.cat(outputs)


def cross_entropy_sum(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    *,
    bias: Tensor | None = None,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    rows: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The sum over positions of ``-log softmax(logits)[target]``, in nats.

    ``rows`` are tokens [R] and the weights [R, D] that take the place of theirs.
    """
    weight_VD = weight_VD if rows is None else weight_VD.index_copy(0, *rows)
    logits = functional.linear(hidden_ND, weight_VD, bias) * logit_scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return functional.cross_entropy(logits, targets_N, reduction="sum")
