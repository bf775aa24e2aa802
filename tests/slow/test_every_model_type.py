"""Every causal model type of transformers: nothing that lorita computes differs from the model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import lorita
from lorita.engine.causal_lm import looks_ahead
from lorita.engine.self_check import padding_is_harmless
from lorita.errors import LoritaError
from lorita.export.merged.merge import merge
from tests.engine import own_step
from tests.zoo import UNSUITABLE, build, causal_types, save

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


@pytest.mark.parametrize("model_type", TYPES)
def test_trains_saves_loads_generates_and_merges(
    model_type: str, prompts: Path, tmp_path: Path
) -> None:
    """The whole way with the defaults."""
    base = save(model_type, tmp_path / "base")
    try:
        trained = lorita.train(
            model=str(base), data=str(prompts), text_field="prompt", learning_rate=1e-2,
            max_new_tokens=4, proof=False, use_cpu=True, dtype="float32", probe=False,
            max_steps=3, output_dir=tmp_path / "run", on_event=lambda event: None,
        )  # fmt: skip
    except LoritaError as refused:
        pytest.skip(str(refused))  # a type that cannot be trained, with the reason
    assert trained.losses[-1] < trained.losses[0]
    tuned = lorita.load(tmp_path / "run")
    questions = ["act as", "my tea and my bread are", "a cook"]
    how = {"max_new_tokens": 6, "repetition_penalty": 1.0}
    together = tuned.generate_batch(questions, **how)
    assert together == [tuned.generate(question, **how) for question in questions]
    made = merge(tmp_path / "run", tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(made.path).eval()
    ids = torch.arange(5, 17)[None]
    with torch.no_grad():
        own = tuned.model(input_ids=ids, use_cache=False).logits
        torch.testing.assert_close(
            merged(input_ids=ids, use_cache=False).logits, own, atol=1e-3, rtol=1e-3
        )
