"""Bases whose weights stay or are quantised: the same training, answers and fingerprint."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lorita.engine.block_tensor import BlockTensor
from lorita.engine.decoding.decoder import usable_decoder
from lorita.engine.packed_model import packed_loss
from lorita.engine.speedup import speedup, unspeed
from lorita.errors import ModelError
from lorita.models.base import Base, find_base
from lorita.models.base_precision import with_precision, with_recorded_precision
from lorita.models.base_weights import load_model
from lorita.models.fingerprint import fingerprint
from tests import tiny
from tests.export.models import with_adapter
from tests.models.gguf_bases import write_gguf

FAMILIES = ("llama", "qwen3", "gemma3", "phi3", "gpt2", "bloom", "starcoder2")
IDS = torch.arange(1, 40) * 5 % 200


def native(path: Path) -> Base:
    return with_precision(find_base(str(path)), "native")


def adapted(base: Base, family: str, dtype: torch.dtype) -> Any:
    return with_adapter(load_model(base, dtype), family)


def loss_and_gradients(model: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    loss = packed_loss(model, IDS, IDS, (20, 19))
    trained = [p for p in model.parameters() if p.requires_grad]
    return loss.detach(), list(torch.autograd.grad(loss, trained))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_training_and_answers(tmp_path: Path, family: str) -> None:
    path = write_gguf(tmp_path, family, quantize="q8_0")
    plain = adapted(find_base(str(path)), family, torch.float32)
    kept = adapted(native(path), family, torch.float32)
    held = [p for p in kept.parameters() if isinstance(p, BlockTensor)]
    assert held
    with torch.no_grad():
        torch.testing.assert_close(kept(IDS[None]).logits, plain(IDS[None]).logits)
    assert fingerprint(kept) == fingerprint(plain)
    reports = [speedup(model) for model in (plain, kept)]
    assert reports[0].lines() == reports[1].lines()
    found, expected = loss_and_gradients(kept), loss_and_gradients(plain)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    logits = []
    for model in (plain, kept):
        unspeed(model)
        decoder = usable_decoder(model)
        if decoder is None:
            assert family == "gpt2"  # this one drops attention weights
            continue
        slots, first = decoder.prefill([IDS[:9].tolist(), IDS[3:8].tolist()])
        logits.append(torch.cat([first, decoder.step(slots, [7, 9])]))
    if logits:
        torch.testing.assert_close(logits[1], logits[0], rtol=1e-4, atol=1e-4)


def lies_in(path: Path, place: int) -> bool:
    """Whether this address is one of a mapping of the file."""
    # Names may hold what other programs take for the end of a line.
    for line in Path("/proc/self/maps").read_bytes().split(b"\n"):
        fields = line.split(maxsplit=5)
        start, end = (int(number, 16) for number in fields[0].split(b"-")) if fields else (0, 0)
        if start <= place < end:
            return fields[5:] == [os.fsencode(path)]
    return False


def test_blocks_that_lie_as_in_the_model_are_those_of_the_file(tmp_path: Path) -> None:
    path = write_gguf(tmp_path, "llama", quantize="q8_0")
    model: Any = load_model(native(path), torch.bfloat16)
    layer = model.model.layers[0]
    assert model.lm_head.weight is model.model.embed_tokens.weight or isinstance(
        model.lm_head.weight, BlockTensor
    )
    mapped = layer.mlp.up_proj.weight.data_ptr(), layer.self_attn.q_proj.weight.data_ptr()
    # The rows of queries lie in another order in the file, so theirs are a copy.
    assert [lies_in(path, place) for place in mapped] == [True, False]
    assert all(isinstance(p, BlockTensor) for name, p in model.named_parameters() if p.ndim == 2)


@pytest.mark.parametrize("precision", ["q8", "q4"])
def test_a_folder_is_quantised_when_it_is_loaded(tmp_path: Path, precision: str) -> None:
    base = find_base(str(tiny.save_model(tmp_path / "base")))
    plain: Any = load_model(base, torch.float32)
    small: Any = load_model(with_precision(base, precision), torch.float32)
    weight = small.model.layers[0].mlp.up_proj.weight
    assert isinstance(weight, BlockTensor)
    original = plain.model.layers[0].mlp.up_proj.weight
    apart = (weight.expanded() - original).norm() / original.norm()
    assert apart < (0.01 if precision == "q8" else 0.1)
    with torch.no_grad():
        a, b = (model(IDS[None]).logits for model in (plain, small))
    assert (a - b).norm() < (0.05 if precision == "q8" else 0.6) * a.norm()


def test_int8_products_are_for_ordinary_weights(tmp_path: Path) -> None:
    model = adapted(native(write_gguf(tmp_path, "llama", quantize="q8_0")), "llama", torch.float32)
    with pytest.raises(ValueError, match="quantised blocks already"):
        speedup(model, base_precision="int8")


@pytest.mark.parametrize(
    ("kind", "precision", "said"),
    [
        ("folder", "native", "is for GGUF files"),
        ("gguf", "q8", "is for models in Hugging Face format"),
        ("gguf", "q4", "is for models in Hugging Face format"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, kind: str, precision: str, said: str) -> None:
    folder = kind == "folder"
    path = tiny.save_model(tmp_path / "b") if folder else write_gguf(tmp_path, "llama")
    with pytest.raises(ModelError, match=said):
        with_precision(find_base(str(path)), precision)


@pytest.mark.parametrize("recorded", ["native", "q8"])
def test_an_adapter_on_another_base_than_its_own(tmp_path: Path, recorded: str) -> None:
    """It can be used there, as before."""
    folder = recorded == "native"
    path = tiny.save_model(tmp_path / "b") if folder else write_gguf(tmp_path, "llama")
    base = find_base(str(path))
    assert with_recorded_precision(base, recorded) == base


def test_nothing_changes_without_a_wish(tmp_path: Path) -> None:
    base = find_base(str(tiny.save_model(tmp_path / "b")))
    assert with_precision(base, None) == with_precision(base, "int8") == base
    assert replace(base, precision="q8") == with_precision(base, "q8")
