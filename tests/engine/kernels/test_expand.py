"""Blocks of every format, expanded by the kernel and by gguf-py: equal bit by bit."""

from __future__ import annotations

import warnings

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind

from lorita.engine.kernels.expand import BLOCKS, can_expand, expand

HALVES = {
    Kind.Q4_0: [0], Kind.Q4_1: [0, 2], Kind.Q5_0: [0], Kind.Q5_1: [0, 2], Kind.Q8_0: [0],
    Kind.Q2_K: [80, 82], Kind.Q3_K: [108], Kind.Q4_K: [0, 2], Kind.Q5_K: [0, 2], Kind.Q6_K: [208],
    Kind.IQ4_NL: [0], Kind.IQ4_XS: [0],
}  # fmt: skip
"""Where each format keeps its scales."""


def random_blocks(kind: Kind, count: int = 999) -> np.ndarray:
    """Any bytes are a block; only scales that are not finite are left out."""
    _, size = gguf.GGML_QUANT_SIZES[kind]
    rng = np.random.default_rng(int(kind))
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for place in HALVES[kind]:
        halves = blocks[:, place : place + 2].copy().view(np.float16)
        halves[~np.isfinite(halves)] = np.float16(-6e-8)  # a subnormal
        blocks[:, place : place + 2] = halves.view(np.uint8)
    return blocks


def by_gguf(blocks: np.ndarray, kind: Kind) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return torch.from_numpy(gguf.quants.dequantize(blocks, kind))


def bits(numbers: torch.Tensor) -> torch.Tensor:
    return numbers.view(torch.int32 if numbers.dtype == torch.float32 else torch.int16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", HALVES, ids=lambda kind: kind.name)
def test_equal_to_ggufs_own(kind: Kind, dtype: torch.dtype) -> None:
    blocks = random_blocks(kind)
    expected = by_gguf(blocks, kind).to(dtype)
    found = torch.empty(expected.shape, dtype=dtype)
    expand(torch.from_numpy(blocks), int(kind), found)
    assert torch.equal(bits(found), bits(expected))


@pytest.mark.parametrize("kind", [Kind.Q4_1, Kind.Q6_K, Kind.IQ4_XS], ids=lambda kind: kind.name)
def test_what_is_not_finite_stays_so(kind: Kind) -> None:
    blocks = random_blocks(kind, count=4)
    for row, half in enumerate([0x7C00, 0xFC00, 0x7E01]):
        blocks[row, HALVES[kind][0] : HALVES[kind][0] + 2] = np.array([half], np.uint16).view("u1")
    expected = by_gguf(blocks, kind)
    found = torch.empty_like(expected)
    expand(torch.from_numpy(blocks), int(kind), found)
    assert not found.isfinite().all()
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_the_sizes_are_ggufs_own() -> None:
    assert {int(kind): gguf.GGML_QUANT_SIZES[kind] for kind in HALVES} == BLOCKS


def test_what_is_no_whole_number_of_blocks_is_refused() -> None:
    for size, numbers in ((17, 32), (18, 31), (36, 32)):
        with pytest.raises(ValueError, match="not the blocks"):
            expand(torch.zeros(size, dtype=torch.uint8), int(Kind.Q4_0), torch.empty(numbers))


def test_other_formats_are_left_to_gguf() -> None:
    assert can_expand(int(Kind.Q4_K), torch.bfloat16)
    assert not can_expand(int(Kind.IQ2_S), torch.bfloat16)
    assert not can_expand(int(Kind.Q4_K), torch.float16)
