"""Numbers that are not the model's own are found, and then transformers writes the text."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from lorita.engine.decoding import check, forwards
from lorita.engine.decoding.decoder import Decoder, usable_decoder
from lorita.inference.generation import GenerationOptions, generate
from tests import tiny
from tests.engine.families import CONFIGS, make
from tests.engine.steps import tuned
from tests.zoo import build


def disagreement(model: Any) -> str | None:
    return check.disagreement(model, Decoder)


def why_not(model: Any) -> str | None:
    return check.why_not(model, Decoder)


FORMATS = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("family", CONFIGS)
def test_every_family_agrees(family: str, dtype: torch.dtype) -> None:
    assert disagreement(tuned(family, dtype).eval()) is None


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("mistral", {"window": None}),
        ("gemma2", {"window": 3}),
        ("gemma2", {"softcap": None}),
        ("bloom", {"alibi_slopes": None}),
        ("llama", {"scale": 0.3}),
    ],
)
def test_other_scores_are_found(
    family: str, changes: dict[str, Any], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the steps after the prompt, which only the cache has to do with."""
    own = forwards.attend
    monkeypatch.setattr(
        forwards, "attend", lambda p, how, *rest: own(p, replace(how, **changes), *rest)
    )
    assert "differ" in str(disagreement(make(family, dtype)))


def _at_the_start(body: Any, *, position_ids: torch.Tensor, **how: Any) -> Any:
    return body(position_ids=position_ids * 0, **how)


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_other_positions_are_found(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Decoder._hidden

    def hidden(self: Any, ids_T: torch.Tensor) -> torch.Tensor:
        body, self._body = self._body, partial(_at_the_start, self._body)
        try:
            return own(self, ids_T)
        finally:
            self._body = body

    monkeypatch.setattr(Decoder, "_hidden", hidden)
    assert disagreement(make(family)) is not None


@pytest.mark.parametrize("model_type", ["mamba", "rwkv", "bert", "qwen3_next", "jamba"])
def test_other_memories_than_attention(model_type: str) -> None:
    assert usable_decoder(build(model_type)) is None


def test_angles_that_depend_on_the_length() -> None:
    model = make(
        "llama", rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    )
    assert "length" in str(why_not(model))


def test_a_generate_of_its_own() -> None:
    model: Any = tiny.make_model("llama")
    own, calls = model.generate, []
    model.generate = lambda **how: calls.append(1) or own(**how)
    assert why_not(model) == "it writes texts in a way of its own"
    made = generate(model, tiny.make_tokenizer(), ["my tea"], GenerationOptions(5))
    assert calls
    assert made == generate(
        tiny.make_model("llama"), tiny.make_tokenizer(), ["my tea"], GenerationOptions(5)
    )


def test_autocast_is_left_to_the_model() -> None:
    model = make("llama")
    with torch.autocast("cpu", torch.bfloat16):
        assert usable_decoder(model) is None
    assert usable_decoder(model) is not None
