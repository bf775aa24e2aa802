"""Prompts answered in a batch get the answers they would get alone."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from lorita.data.rows import Pair
from lorita.data.tokens.prompt_format import PromptFormat
from lorita.engine.speedup import speedup
from lorita.errors import SettingsError
from lorita.evaluation.prompts import prompts_of
from lorita.inference import through_transformers
from lorita.inference.generation import generate
from lorita.inference.options import GenerationOptions
from lorita.inference.prompt_length import fits, positions_in_table
from tests import tiny
from tests.engine.families import CONFIGS

PROMPTS = ["I act as a cook.", "I", "my tea and my bread: " * 2, "gardener", "teacher as a " * 2]


def alone(model: torch.nn.Module, prompt: str, penalty: float, count: int = 12) -> str:
    """The answer of transformers itself to one prompt, with its own penalty."""
    tokenizer = tiny.make_tokenizer()
    ids_1L = tokenizer(prompt, return_tensors="pt")["input_ids"]
    out_1L = model.generate(
        input_ids=ids_1L,
        attention_mask=torch.ones_like(ids_1L),
        max_new_tokens=count,
        repetition_penalty=penalty,
        do_sample=False,
        eos_token_id=0,
        pad_token_id=0,
    )
    return str(tokenizer.decode(out_1L[0, ids_1L.shape[1] :], skip_special_tokens=True))


def random_model(family: str) -> PreTrainedModel:
    """A tiny model of one of the engine's families, with the tiny tokenizer's vocabulary."""
    torch.manual_seed(3)
    config = CONFIGS[family]()
    config.vocab_size = len(tiny.make_tokenizer())
    config.eos_token_id = config.bos_token_id = config.pad_token_id = 0
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            torch.nn.init.normal_(parameter, std=0.15)
    return model


@pytest.mark.parametrize("penalty", [1.0, 1.5])
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("family", ["llama", "bloom", "gpt2"])
def test_together_as_alone(family: str, fast: bool, penalty: float) -> None:
    model = tiny.make_model(family)
    expected = [alone(model, prompt, penalty) for prompt in PROMPTS]
    assert len(set(expected)) > 1
    if fast:
        speedup(model)
    options = GenerationOptions(12, penalty)
    assert generate(model, tiny.make_tokenizer(), PROMPTS, options) == expected
    assert generate(model, tiny.make_tokenizer(), PROMPTS[1:2], options) == expected[1:2]


@pytest.mark.parametrize("family", CONFIGS)
def test_every_family_pads_on_the_left(family: str) -> None:
    """Families with sliding windows, soft caps, norms and positions of their own."""
    model, tokenizer = random_model(family), tiny.make_tokenizer()
    expected = [alone(model, prompt, 1.5) for prompt in PROMPTS]
    assert generate(model, tokenizer, PROMPTS, GenerationOptions(12, 1.5)) == expected


def test_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """More prompts than one batch holds: the answers come back in the order of the prompts."""
    monkeypatch.setattr(through_transformers, "BATCH_SIZE", 2)
    model = tiny.make_model("llama")
    expected = [alone(model, prompt, 1.5) for prompt in PROMPTS]
    assert generate(model, tiny.make_tokenizer(), PROMPTS, GenerationOptions(12)) == expected


def test_the_end_of_a_text_is_no_less_likely_for_the_padding() -> None:
    """A model that ends every text at once still does so next to a longer prompt."""
    model = tiny.make_model("llama")
    model.config.tie_word_embeddings = False
    with torch.no_grad():
        weight = torch.zeros_like(model.lm_head.weight)
        model.lm_head.weight = torch.nn.Parameter(weight)
        model.lm_head.bias = torch.nn.Parameter(torch.full((len(weight),), 1.0))
        model.lm_head.bias[0] = 1.2
    assert generate(model, tiny.make_tokenizer(), PROMPTS, GenerationOptions(4)) == [""] * 5


@pytest.mark.parametrize("family", ["gpt2", "opt"])
def test_the_answer_ends_where_the_positions_do(family: str) -> None:
    """Even next to a shorter prompt, which gets all the tokens it asked for."""
    model, tokenizer = random_model(family), tiny.make_tokenizer()
    places = positions_in_table(model)
    assert places == model.config.max_position_embeddings
    nearly = "a" * (places - 3)
    expected = [alone(model, "cook", 1.5, 12), alone(model, nearly, 1.5, 3)]
    assert generate(model, tokenizer, ["cook", nearly], GenerationOptions(12)) == expected


def test_a_prompt_longer_than_the_positions() -> None:
    model, tokenizer = tiny.make_model("gpt2"), tiny.make_tokenizer()
    places = positions_in_table(model)
    assert places is not None
    long = "word " * places
    with pytest.raises(SettingsError, match=rf"{places} positions for prompt and answer"):
        generate(model, tokenizer, [long])
    can = fits(model, tokenizer, PromptFormat())
    assert prompts_of([Pair(long, "yes"), Pair("Short?", "no")], fits=can) == ["Short?"]
    assert prompts_of([Pair(long, "yes")], fits=can) == [("word " * 8).strip()]


def test_computed_positions_have_no_end() -> None:
    assert positions_in_table(tiny.make_model("llama")) is None
    assert positions_in_table(tiny.make_model("bloom")) is None
