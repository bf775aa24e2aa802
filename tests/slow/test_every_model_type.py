"""Every causal model type of transformers: nothing that lorita computes differs from the model."""

from __future__ import annotations

import pytest
import torch

from lorita.engine.causal_lm import looks_ahead
from lorita.engine.self_check import padding_is_harmless
from tests.engine import own_step
from tests.zoo import UNSUITABLE, build, causal_types

pytestmark = pytest.mark.slow
TYPES = [kind for kind in causal_types() if kind not in UNSUITABLE]


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("model_type", TYPES)
def test_the_fast_step_is_the_models_own(model_type: str, device: str) -> None:
    model = build(model_type).to(device)  # type: ignore[arg-type]
    if looks_ahead(model):
        pytest.skip("no causal language model")
    tuned = own_step.adapted(model)
    own = own_step.step(tuned, own_step.loss_alone(tuned))
    padded = own_step.step(tuned, own_step.loss_padded(tuned))
    assert own_step.difference(padded, own) < 1e-3 or not padding_is_harmless(tuned)
    fast, report = own_step.fast_step(tuned)
    assert own_step.difference(fast, own) < 1e-3, report
