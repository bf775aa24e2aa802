"""On a GPU: torch's variable-length flash attention, and Liger's kernels on request.

Variable-length attention takes packed rows as they are, but supports neither soft-capping, nor
linear biases, nor float32: those go through ``attention.py``, which runs on any device.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lorita.engine.kernels.row_layout import RowLayout
from lorita.engine.kernels.score_rule import Scores
from lorita.engine.kernels.shared_rows import whole_rows_of_tokens

LARGEST_HEAD = 256
"""The largest head size that flash attention supports."""


def takes_variable_lengths(x: Tensor, d: int, how: Scores) -> bool:
    """Whether torch's variable-length attention can compute this: plain, half precision, a GPU."""
    half = x.dtype in (torch.bfloat16, torch.float16)
    plain = how.softcap is None and how.alibi_slopes is None
    return x.is_cuda and half and plain and d <= LARGEST_HEAD and _varlen() is not None


def variable_length_attention(
    q_THd: Tensor, k_TKd: Tensor, v_TKd: Tensor, rows: RowLayout, how: Scores
) -> Tensor:
    """Causal attention within each row, [T, H, d]; query head h uses key head h // (H/K).

    Only where ``takes_variable_lengths``.
    """
    attend = _varlen()
    assert attend is not None
    out: Tensor = attend(
        q_THd,
        whole_rows_of_tokens(k_TKd, rows),
        whole_rows_of_tokens(v_TKd, rows),
        _ends(rows, q_THd.device),
        _ends(rows.full, q_THd.device),
        max(rows.lengths),
        max(rows.full.lengths),  # the last query of a row attends to its last key
        scale=how.scale,
        window_size=(how.window - 1 if how.window else -1, 0),
        enable_gqa=q_THd.shape[1] != k_TKd.shape[1],
    )
    return out


def _ends(rows: RowLayout, device: torch.device) -> Tensor:
    ends = [0, *(start + length for start, length in rows.spans)]
    return torch.tensor(ends, dtype=torch.int32).to(device)


@functools.cache
def _varlen() -> Callable[..., Any] | None:
    """torch's function; None where this torch lacks it or one of the options used here."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    wanted = ("window_size", "enable_gqa", "scale")
    known = getattr(varlen_attn, "__kwdefaults__", None) or {}
    return varlen_attn if all(name in known for name in wanted) else None


def has_liger() -> bool:
    """Whether the package liger-kernel is installed."""
    return importlib.util.find_spec("liger_kernel") is not None


def liger_rms_norm(
    x: Tensor, weight: Tensor, eps: float, *, plus_one: bool, casting: str = "llama"
) -> Tensor:
    """``ops.rms_norm`` by Liger's kernel (Hsu et al., 2024).

    ``casting`` is Liger's name for where the computation is rounded.
    """
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction

    # Not in place: the residual beside the norm may still need the gradient that comes back.
    out: Tensor = LigerRMSNormFunction.apply(x, weight, eps, float(plus_one), casting, False)
    return out


def liger_gated_activation(gate_up: Tensor, kind: str) -> Tensor:
    """``ops.gated_activation`` by Liger's kernels."""
    if kind == "silu":
        from liger_kernel.ops.swiglu import LigerSiLUMulFunction as Gated
    else:
        from liger_kernel.ops.geglu import LigerGELUMulFunction as Gated
    gate, up = gate_up.chunk(2, dim=-1)
    out: Tensor = Gated.apply(gate, up)
    return out
