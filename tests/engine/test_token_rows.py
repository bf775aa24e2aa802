"""Rows of single trained tokens: the fast forwards give what PEFT's own give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GemmaConfig
from transformers.models.auto import AutoModelForCausalLM

from lorita.engine.decoding.decoder import usable_decoder
from lorita.engine.kernels import reference
from lorita.engine.kernels.loss import cross_entropy_sum
from lorita.engine.packed_model import packed_loss
from lorita.engine.speedup import speedup
from lorita.engine.token_rows import token_rows
from lorita.models.adapter import trainable_parameters
from lorita.models.new_rows import grow, trained_rows
from tests import tiny

LENGTHS = (7, 4)
LABELS_T = torch.tensor([3, 5, 257, 9, 258, 257, 2, 8, 258, 4, 257])


def model_of(kind: str) -> Any:
    if kind == "gemma":  # scales its embeddings, and ties them to the output
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8}
        config = GemmaConfig(
            vocab_size=257, num_attention_heads=4, num_key_value_heads=2, pad_token_id=0, **sizes
        )
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).requires_grad_(False).eval()
        tiny.make_it_matter(model)
        return model
    model = tiny.make_model("llama")
    if kind == "untied":
        config = model.config
        config.tie_word_embeddings = False
        model = AutoModelForCausalLM.from_config(config).requires_grad_(False).eval()
        tiny.make_it_matter(model)
    return model


def with_new_tokens(kind: str) -> Any:
    model = model_of(kind)
    grow(model, {257: [1, 2], 258: [3]})
    rows = trained_rows(model, [257, 258])
    config = LoraConfig(
        task_type="CAUSAL_LM", target_modules="all-linear", trainable_token_indices=rows
    )
    peft = get_peft_model(model, config).eval()
    for name, parameter in trainable_parameters(peft).items():
        if "lora_B" in name or "token" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return peft


@pytest.mark.parametrize("kind", ["tied", "untied", "gemma"])
def test_loss_and_gradients_are_those_of_peft(kind: str) -> None:
    model = with_new_tokens(kind)
    slow = sum(
        model(input_ids=row[None], labels=row[None]).loss * (len(row) - 1)
        for row in LABELS_T.split(list(LENGTHS))
    )
    slow.backward()  # type: ignore[union-attr]
    expected = {n: p.grad.clone() for n, p in trainable_parameters(model).items()}
    model.zero_grad()

    report = str(speedup(model))
    assert "rows of single tokens" in report, report
    fast = packed_loss(model, LABELS_T, LABELS_T, LENGTHS)
    fast.backward()

    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5)
    for name, parameter in trainable_parameters(model).items():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-5, msg=name)
    assert any("token" in name and grad.abs().sum() > 0 for name, grad in expected.items())


@pytest.mark.parametrize("kind", ["tied", "untied", "gemma"])
def test_the_decoder_writes_with_the_new_rows(kind: str) -> None:
    model = with_new_tokens(kind)
    decoder = usable_decoder(model)
    assert decoder is not None
    _, logits_nV = decoder.prefill([LABELS_T.tolist()])
    with torch.no_grad():
        own_V = model(input_ids=LABELS_T[None]).logits[0, -1]
    torch.testing.assert_close(logits_nV[0], own_V, rtol=1e-3, atol=1e-4)


def test_an_adapter_that_is_off_has_no_rows() -> None:
    model = with_new_tokens("tied")
    wrapper = model.get_input_embeddings()
    assert token_rows(wrapper) is not None
    speedup(model)
    with model.disable_adapter(), torch.no_grad():
        assert token_rows(wrapper) is None
        off = model(input_ids=LABELS_T[None]).logits
    base = model_of("tied")
    grow(base, {257: [1, 2], 258: [3]})
    torch.testing.assert_close(off, base(input_ids=LABELS_T[None]).logits)


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_the_loss_with_rows_of_their_own(softcap: float | None) -> None:
    torch.manual_seed(0)
    weight_VD, targets_N = torch.randn(600, 16), torch.randint(0, 600, (700,))
    ids_R = torch.tensor([2, 77, 599])
    targets_N[:50] = 77
    found = []
    for function in (cross_entropy_sum, reference.cross_entropy_sum):
        torch.manual_seed(1)
        hidden_ND = torch.randn(700, 16, requires_grad=True)
        rows_RD = torch.randn(3, 16, requires_grad=True)
        loss = function(  # type: ignore[operator]
            hidden_ND, weight_VD, targets_N, softcap=softcap, rows=(ids_R, rows_RD)
        )
        (loss / 700).backward()
        found.append((loss, hidden_ND.grad, rows_RD.grad))
    for mine, naive in zip(*found, strict=True):
        torch.testing.assert_close(mine, naive, rtol=1e-4, atol=1e-5)
