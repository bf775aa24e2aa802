"""What tests of kernels share: each runs with every set of kernels of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch

from lorita.engine.kernels import native
from lorita.engine.processor import usable_instructions


@pytest.fixture(params=["native", "avx2", "torch"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The compiled kernels, those for AVX2 on a processor that has more, or plain torch."""
    if request.param == "avx2":
        if "avx512f" not in usable_instructions():
            pytest.skip("this processor has no more than AVX2, which the native kernels are for")
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
        native._load.cache_clear()
    if request.param != "torch" and native.kernel("rms_norm", torch.zeros(1)) is None:
        pytest.skip(native.status())
    with native.disabled() if request.param == "torch" else nullcontext():
        yield
    if request.param == "avx2":
        monkeypatch.undo()
        native._load.cache_clear()
