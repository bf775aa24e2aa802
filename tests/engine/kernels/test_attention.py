"""Attention over packed rows, against its plain twin."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lorita.engine.kernels import reference
from lorita.engine.kernels.attention import attention
from lorita.engine.kernels.head_layout import Part
from lorita.engine.kernels.heads import join_heads, split_heads
from lorita.engine.kernels.row_layout import RowLayout
from lorita.engine.kernels.score_rule import Scores
from tests.engine.kernels.twins import DTYPES, check, random

pytestmark = pytest.mark.usefixtures("backend")
LENGTHS = [(5,), (1,), (3, 1, 40, 17, 36, 15), (700, 1, 20, 18)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize(
    "how",
    [{}, {"window": 6}, {"softcap": 2.0}, {"alibi": True}, {"window": 530, "alibi": True}],
    ids=str,
)
@pytest.mark.parametrize("d", [8, 16, 80])  # the compiled kernel takes multiples of 16
def test_attention(
    d: int, dtype: torch.dtype, lengths: tuple[int, ...], how: dict[str, Any]
) -> None:
    kv, group, tokens = 2, 3, sum(lengths)
    slopes = torch.tensor([2.0**-i for i in range(1, 7)]) if how.get("alibi") else None
    given = {name: how[name] for name in ("window", "softcap") if name in how}

    def fast(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        rows = RowLayout(lengths)
        slots = [
            split_heads(t.flatten(1), (Part(0, kv * n, n, n * d, d),), rows)[0]
            for t, n in ((q, group), (k, 1), (v, 1))
        ]
        out = attention(*slots, rows, Scores(0.3, alibi_slopes=slopes, **given))
        return join_heads(out, rows).view(tokens, kv * group, d)

    check(
        fast,
        lambda q, k, v: reference.attention(
            q, k, v, lengths, scale=0.3, alibi_slopes=slopes, **given
        ),
        [random(tokens, kv * group, d), random(tokens, kv, d), random(tokens, kv, d, seed=3)],
        dtype,
    )


SHARING = [
    ((5, 3, 1), (None, 0, 0)),
    ((9, 70, 40, 17, 1, 3, 36, 33), (None, None, 1, 1, 1, None, None, 6)),
    ((520, 3, 20), (None, 0, 0)),
]
"""Rows, and which of them continue an earlier one."""


@pytest.mark.parametrize(
    ("lengths", "continues", "dtype"),
    # In bf16 without instructions for it, the long one takes ten seconds.
    [*((*rows, dtype) for rows in SHARING[:2] for dtype in DTYPES), (*SHARING[2], torch.float32)],
)
@pytest.mark.parametrize(
    "how", [{}, {"window": 6}, {"softcap": 2.0, "alibi": True}, {"window": 530}], ids=str
)
def test_attention_of_rows_that_share_a_beginning(
    lengths: tuple[int, ...],
    continues: tuple[int | None, ...],
    dtype: torch.dtype,
    how: dict[str, Any],
) -> None:
    """The twin computes every row as a whole, and of each the part that is its own is compared."""
    kv, group, d, tokens = 2, 3, 16, sum(lengths)
    rows = RowLayout(lengths, continues)
    slopes = torch.tensor([2.0**-i for i in range(1, 7)]) if how.get("alibi") else None
    given = {name: how[name] for name in ("window", "softcap") if name in how}

    def fast(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        slots = [
            split_heads(t.flatten(1), (Part(0, kv * n, n, n * d, d),), rows)[0]
            for t, n in ((q, group), (k, 1), (v, 1))
        ]
        out = attention(*slots, rows, Scores(0.3, alibi_slopes=slopes, **given))
        return join_heads(out, rows).view(tokens, kv * group, d)

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        whole = (t[rows.sources] for t in (q, k, v))
        out = reference.attention(
            *whole, rows.full.lengths, scale=0.3, alibi_slopes=slopes, **given
        )
        return out[rows.own]

    check(
        fast,
        plain,
        [random(tokens, kv * group, d), random(tokens, kv, d), random(tokens, kv, d, seed=3)],
        dtype,
    )


@pytest.mark.parametrize("lengths", [(330,), (40,) * 6])
def test_attention_with_more_and_fewer_threads(lengths: tuple[int, ...]) -> None:
    def run() -> list[Tensor]:
        q, k, v = (random(sum(lengths) * 2, n, 32, seed=n).float() for n in (3, 1, 1))
        inputs = [t.requires_grad_() for t in (q, k, v)]
        out = attention(*inputs, RowLayout(lengths), Scores(0.2))
        return [out, *torch.autograd.grad(out.square().sum(), inputs)]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = run()
        for threads in (2, 7):
            torch.set_num_threads(threads)
            for mine, theirs in zip(run(), alone, strict=True):
                assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-5)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_attention_does_not_hide_what_is_not_finite(dtype: torch.dtype, bad: float) -> None:
    lengths = (70, 3)
    q, k, v = (torch.ones(sum(lengths), 1, 16, dtype=dtype) for _ in range(3))
    q[10] = bad
    out = attention(q, k, v, RowLayout(lengths), Scores(0.25))
    assert out[10].isnan().all()
    assert out.isnan().sum() == 16
