"""Causal models that lorita has no code for train, save and load like the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from peft import PeftModel

import lorita
from tests import tiny

COMMON = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
FAMILIES: dict[str, Callable[[int], transformers.PretrainedConfig]] = {
    "gptj": lambda vocab: transformers.GPTJConfig(
        vocab_size=vocab, n_embd=32, n_layer=2, n_head=4, rotary_dim=4, n_positions=128, **COMMON
    ),
    "mpt": lambda vocab: transformers.MptConfig(
        vocab_size=vocab, d_model=32, n_heads=4, n_layers=2, max_seq_len=128, **COMMON
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_trains_and_loads(family: str, prompts: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = tiny.make_tokenizer()
    model = transformers.AutoModelForCausalLM.from_config(FAMILIES[family](len(tokenizer)))
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    result = lorita.train(
        model=str(tmp_path / "base"), data=str(prompts), text_field="prompt", learning_rate=1e-2,
        max_new_tokens=4, proof=False, use_cpu=True, output_dir=tmp_path / "run",
        on_event=lambda event: None,
    )  # fmt: skip
    assert result.losses[-1] < result.losses[0]
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert PeftModel.from_pretrained(plain, str(tmp_path / "run"))
