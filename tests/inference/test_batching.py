"""An answer in a batch is the answer that its prompt gets alone."""

from __future__ import annotations

import pytest
import torch

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
