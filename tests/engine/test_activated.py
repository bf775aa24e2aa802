"""Activated LoRA: loss, gradients and answers are those of PEFT's own aLoRA."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from lorita.engine.activated import activate, deactivate, invocation_start
from lorita.engine.decoding.decoder import Decoder, usable_decoder
from lorita.engine.packed_model import packed_loss
from lorita.engine.patch import patch_of
from lorita.engine.speedup import speedup, unspeed
from lorita.errors import AdapterError
from lorita.inference.generation import generate
from tests import tiny

INVOCATION = [7, 8, 9]
FAMILIES = ["llama", "bloom", "gpt2"]
LENGTHS = (9, 14, 20, 6)


def adapted(family: str = "llama", **options: Any) -> PeftModel:
    """A model with an adapter that does something, by PEFT alone."""
    model = tiny.make_model(family)
    torch.manual_seed(1)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False,
        alora_invocation_tokens=INVOCATION, **options,
    )  # fmt: skip
    return get_peft_model(model, config).eval()


def make_rows() -> list[list[int]]:
    """Rows with the invocation once, twice, at the very end, and not at all."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(10, 200, (n,), generator=generator).tolist() for n in LENGTHS]
    rows[0][3:6] = INVOCATION
    rows[1][2:5] = rows[1][8:11] = INVOCATION
    rows[2][17:20] = INVOCATION
    return rows


def padded(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.where(mask.bool(), -100)}


def gradients(model: PeftModel) -> dict[str, torch.Tensor]:
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def same_gradients(one: PeftModel, other: PeftModel) -> None:
    mine, theirs = gradients(one), gradients(other)
    assert mine.keys() == theirs.keys()
    for name, grad in mine.items():
        torch.testing.assert_close(grad, theirs[name], rtol=1e-3, atol=1e-4)
    assert any(grad.abs().max() > 1e-3 for grad in mine.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_peft(family: str) -> None:
    rows = make_rows()
    inputs, count = padded(rows), sum(LENGTHS) - len(LENGTHS)
    theirs = adapted(family)
    expected = theirs(**inputs).loss * count
    expected.backward()

    packed = adapted(family)
    speedup(packed)
    patch = patch_of(packed.get_base_model())
    assert patch is not None and patch.packs_rows
    packed.train()
    ids_T = torch.tensor([token for row in rows for token in row])
    loss = packed_loss(packed, ids_T, ids_T, LENGTHS)
    loss.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-4, atol=1e-3)
    same_gradients(packed, theirs)

    side_by_side = adapted(family)  # the model's own forwards, called without PEFT's wrapper
    activate(side_by_side)
    loss = side_by_side.get_base_model()(**inputs).loss * count
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-3)
    same_gradients(side_by_side, theirs)


def test_recomputed_activations_have_the_same_gradients() -> None:
    rows = make_rows()
    ids_T = torch.tensor([token for row in rows for token in row])
    models = [adapted(lora_dropout=0.0) for _ in range(2)]
    for model, again in zip(models, (False, True), strict=True):
        if again:
            model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
        speedup(model)
        model.train()
        packed_loss(model, ids_T, ids_T, LENGTHS).backward()
    same_gradients(*models)


def test_tokens_before_the_invocation_are_the_bases_own() -> None:
    model, rows = adapted(), make_rows()
    speedup(model)
    ids = torch.tensor([rows[1]])
    with torch.no_grad():
        tuned = model.get_base_model()(input_ids=ids).logits[0]
        with model.disable_adapter():
            base = model.get_base_model()(input_ids=ids).logits[0]
    assert torch.equal(tuned[:8], base[:8])
    assert (tuned[8:] - base[8:]).abs().amax(-1).min() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_those_of_peft(family: str) -> None:
    """By the engine's decoder, by transformers with a cache and without one."""
    model, rows = adapted(family), make_rows()
    how = {"max_new_tokens": 6, "do_sample": False}
    expected = []
    for row in rows:
        ids = torch.tensor([row])
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **how)
        expected.append(out[0, len(row) :].tolist())
    activate(model)
    lm = model.get_base_model()
    for row, answer in zip(rows, expected, strict=True):
        ids = torch.tensor([row])
        for cached in (True, False):
            out = lm.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=cached, **how
            )
            assert out[0, len(row) :].tolist() == answer
    decoder = usable_decoder(model)
    assert isinstance(decoder, Decoder)
    slots, logits = decoder.prefill(rows)
    written = [[int(row.argmax())] for row in logits]
    for _ in range(5):
        logits = decoder.step(slots, [answer[-1] for answer in written])
        for answer, row in zip(written, logits, strict=True):
            answer.append(int(row.argmax()))
    for mine, answer in zip(written, expected, strict=True):
        assert mine[: len(answer)] == answer


def test_padding_on_the_left_and_invocations_in_padding() -> None:
    model, (first, *_) = adapted(), make_rows()
    activate(model)
    lm = model.get_base_model()
    with torch.no_grad():
        alone = lm(input_ids=torch.tensor([first])).logits[0, -1]
        padding = [0, *INVOCATION]
        ids = torch.tensor([padding + first])
        mask = torch.tensor([[0] * len(padding) + [1] * len(first)])
        places = torch.tensor([[0] * len(padding) + list(range(len(first)))])
        left = lm(input_ids=ids, attention_mask=mask, position_ids=places).logits[0, -1]
        torch.testing.assert_close(left, alone, rtol=1e-4, atol=1e-4)


def test_where_an_invocation_starts() -> None:
    assert invocation_start([1, 7, 8, 9, 7, 8, 9, 2], INVOCATION) == 4
    assert invocation_start([7, 8], INVOCATION) is None
    assert invocation_start([7, 7, 8, 9], INVOCATION) == 1


def test_what_cannot_be_known_is_refused() -> None:
    model = adapted()
    activate(model)
    lm = model.get_base_model()
    embeddings = lm.get_input_embeddings()(torch.tensor([[5, 6]]))
    with pytest.raises(AdapterError, match="token ids"):
        lm(inputs_embeds=embeddings)
    layer = lm.model.layers[0].self_attn.q_proj
    lm(input_ids=torch.tensor([[5, 6, 7]]))
    with pytest.raises(AdapterError, match="only some of the tokens"):
        layer(torch.zeros(1, 2, 32))
    cache = lm(input_ids=torch.tensor([[5, 6]]), use_cache=True).past_key_values
    deactivate(lm)
    activate(model)
    with pytest.raises(AdapterError, match="not seen"):
        lm(input_ids=torch.tensor([[5]]), past_key_values=cache)


def test_prompts_without_the_invocation_are_said() -> None:
    model, tokenizer = adapted(), tiny.make_tokenizer()
    activate(model)
    with pytest.warns(UserWarning, match=r"1 of 2 prompts do not hold"):
        generate(model, tokenizer, ["plain", tokenizer.decode([20, *INVOCATION])])
    unspeed(model)
