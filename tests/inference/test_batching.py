"""An answer in a batch is the answer that its prompt gets alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lorita.errors import ModelError, RunFailed
from lorita.inference.batching import can_answer_together
from lorita.inference.generation import GenerationOptions, generate
from tests import tiny
from tests.zoo import build


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "mamba", "rwkv", "qwen3_next", "bert"])
def test_batched_is_single(model_type: str) -> None:
    model, tokenizer = build(model_type), tiny.make_tokenizer()
    for config in (model.config, model.generation_config):
        config.pad_token_id = config.bos_token_id = config.eos_token_id = 0
    prompts = ["act as", "my tea and my bread are", "a cook", "tailor"]
    how = GenerationOptions(6, repetition_penalty=1.0)
    together = generate(model, tokenizer, prompts, how)
    assert together == [generate(model, tokenizer, [prompt], how)[0] for prompt in prompts]


def test_most_models_answer_together() -> None:
    assert can_answer_together(build("llama"))
    assert can_answer_together(build("llama", torch.bfloat16))
    assert can_answer_together(build("mamba"))
    assert not can_answer_together(build("rwkv"))  # takes no mask


def broken(error: Exception, *, without_cache: bool) -> Any:
    """A model whose generation fails, with a cache or always."""
    model = build("llama")
    own = model.generate

    def generate(**how: Any) -> Any:
        if without_cache or how.get("use_cache") is not False:
            raise error
        return own(**how)

    model.generate = generate
    return model


def test_a_fault_in_the_models_cache_is_passed_over() -> None:
    tokenizer, how = tiny.make_tokenizer(), GenerationOptions(4)
    model = broken(AttributeError("no attribute"), without_cache=False)
    assert generate(model, tokenizer, ["act"], how) == generate(
        build("llama"), tokenizer, ["act"], how
    )


@pytest.mark.parametrize("error", [RuntimeError("shapes"), IndexError("layer 3"), KeyError("x")])
def test_a_model_that_cannot_generate_is_told(error: Exception) -> None:
    model = broken(error, without_cache=True)
    with pytest.raises(ModelError, match="cannot generate text with this model"):
        generate(model, tiny.make_tokenizer(), ["act"], GenerationOptions(4))


def test_lack_of_memory_keeps_its_name() -> None:
    error = RuntimeError("DefaultCPUAllocator: can't allocate memory")
    with pytest.raises(RunFailed, match="does not fit in memory"):
        generate(
            broken(error, without_cache=True), tiny.make_tokenizer(), ["a"], GenerationOptions(4)
        )
