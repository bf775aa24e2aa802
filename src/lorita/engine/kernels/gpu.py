"""On a GPU: torch's variable-length flash attention, and Liger's kernels where they are wanted.

Rows that lie end to end are what variable-length attention takes. It knows neither soft-capping
nor linear biases nor float32: what needs those goes through ``attention.py``, which runs on any
device.
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

LARGEST_HEAD = 256
"""Flash attention takes no larger heads."""


def takes_variable_lengths(x: Tensor, d: int, how: Scores) -> bool:
    """Whether torch's variable-length attention can do this: half precision on a GPU, plain."""
    half = x.dtype in (torch.bfloat16, torch.float16)
    plain = how.softcap is None and how.alibi_slopes is None
    return x.is_cuda and half and plain and d <= LARGEST_HEAD and _varlen() is not None


def variable_length_attention(
    q_THd: Tensor, k_TKd: Tensor, v_TKd: Tensor, rows: RowLayout, how: Scores
) -> Tensor:
    """Causal attention within each row, [T, H, d]; query head h uses key head h // (H/K)."""
    attend = _varlen()
    assert attend is not None
    ends = torch.tensor([0, *(start + length for start, length in rows.spans)], dtype=torch.int32)
    ends = ends.to(q_THd.device)
    longest = max(rows.lengths)
    out: Tensor = attend(
        q_THd,
        k_TKd,
        v_TKd,
        ends,
        ends,
        longest,
        longest,
        scale=how.scale,
        window_size=(how.window - 1 if how.window else -1, 0),
        enable_gqa=q_THd.shape[1] != k_TKd.shape[1],
    )
    return out


@functools.cache
def _varlen() -> Callable[..., Any] | None:
    """torch's function; None where this torch has none that does what is needed."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    wanted = ("window_size", "enable_gqa", "scale")
    known = getattr(varlen_attn, "__kwdefaults__", None) or {}
    return varlen_attn if all(name in known for name in wanted) else None


def has_liger() -> bool:
    return importlib.util.find_spec("liger_kernel") is not None


def liger_rms_norm(x: Tensor, weight: Tensor, eps: float, *, plus_one: bool) -> Tensor:
    """``ops.rms_norm`` by Liger's kernel (Hsu et al., 2024)."""
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction

    mode = "gemma" if plus_one else "llama"
    # Not in place: what comes back may still be needed by the residual beside the norm.
    out: Tensor = LigerRMSNormFunction.apply(x, weight, eps, float(plus_one), mode, False)
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
