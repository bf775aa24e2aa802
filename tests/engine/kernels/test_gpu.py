"""What runs on a GPU, tested on a CPU with a stand-in for the flash kernel."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lorita.engine import forwards
from lorita.engine.kernels import gpu
from lorita.engine.kernels.score_rule import Scores
from lorita.engine.packed_model import packed_loss
from lorita.engine.speedup import speedup
from tests.engine.steps import LENGTHS, assert_same_step, rows, tuned
from tests.training.test_shared_beginnings import require_equal, step
from tests.training.test_shared_beginnings import rows as alike


def stand_in(
    q: Tensor, k: Tensor, v: Tensor, ends_q: Tensor, ends_k: Tensor, max_q: int, max_k: int,
    *, scale: float, window_size: tuple[int, int], enable_gqa: bool,
) -> Tensor:  # fmt: skip
    """torch's ``varlen_attn`` as documented: (W, 0) attends to itself and W keys before it.

    The last query of a row is at its last key, as in flash attention.
    """
    assert ends_q.dtype == ends_k.dtype == torch.int32
    assert (max_q, max_k) == (int(ends_q.diff().max()), int(ends_k.diff().max()))
    assert enable_gqa or q.shape[1] == k.shape[1]
    left, right = window_size
    assert right == 0
    outputs = []
    rows_q, rows_k = (list(pairwise(ends.tolist())) for ends in (ends_q, ends_k))
    for of_q, of_k in zip(rows_q, rows_k, strict=True):
        key = torch.arange(of_k[1] - of_k[0])
        query = key[len(key) - (of_q[1] - of_q[0]) :, None]
        seen = key <= query
        if left >= 0:
            seen &= key >= query - left
        row = [t[slice(*of)].transpose(0, 1)[None] for t, of in ((q, of_q), (k, of_k), (v, of_k))]
        out = functional.scaled_dot_product_attention(
            *row, attn_mask=seen, scale=scale, enable_gqa=True
        )
        outputs.append(out[0].transpose(0, 1))
    return torch.cat(outputs)


@pytest.mark.parametrize(
    "family",
    ["llama", "llama-one-kv-head", "mistral", "qwen3", "gemma3", "phi3", "gpt2", "gpt_neox",
     "falcon-new", "falcon-rotary", "olmo2"],
)  # fmt: skip
def test_variable_length_attention(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Scores] = []

    def attend(q: Tensor, k: Tensor, v: Tensor, layout: Any, how: Scores) -> Tensor:
        calls.append(how)
        return gpu.variable_length_attention(q, k, v, layout, how)

    monkeypatch.setattr(gpu, "_varlen", lambda: stand_in)
    monkeypatch.setattr(forwards, "takes_variable_lengths", lambda x, d, how: True)
    monkeypatch.setattr(forwards, "variable_length_attention", attend)
    model = tuned(family)
    assert_same_step(model, 3e-5)
    assert calls
    speedup(model)
    packed_loss(model, *rows(), LENGTHS)
    examples = alike("some")
    require_equal(step(model, examples, sharing=True), step(model, examples, sharing=False))


def test_the_installed_torch_has_these_options() -> None:
    """The keyword arguments exist in the installed torch (absent before 2.10)."""
    found = gpu._varlen()
    if found is None:
        pytest.skip("this torch has no variable-length attention")
    assert {"scale", "window_size", "enable_gqa"} <= found.__kwdefaults__.keys()


def test_flash_attention_needs_a_gpu() -> None:
    x = torch.zeros(4, 8, dtype=torch.bfloat16)
    assert not gpu.takes_variable_lengths(x, 8, Scores(1.0))


def test_liger_is_refused_on_a_cpu() -> None:
    with pytest.raises(ValueError, match="needs a GPU"):
        speedup(tuned("llama"), use_liger_kernel=True)
