"""What tests of kernels share: each runs twice, with the compiled kernels and in plain torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch

from lorita.engine.kernels import native


@pytest.fixture(params=["native", "torch"])
def backend(request: pytest.FixtureRequest) -> Iterator[None]:
    """The compiled kernels, or plain torch."""
    if request.param == "native" and native.kernel("rms_norm", torch.zeros(1)) is None:
        pytest.skip(native.status())
    with native.disabled() if request.param == "torch" else nullcontext():
        yield
