"""Families of today: the same loss and gradients as transformers', rows kept apart exactly."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from lorita.engine.causal_lm import causal_lm
from lorita.engine.decoding.check import disagreement
from lorita.engine.decoding.decoder import Decoder
from lorita.engine.mixers import looks_like_mixer
from lorita.engine.packed_model import packed_loss
from lorita.engine.recognise import looks_like_attention
from lorita.engine.replace import MIXER
from lorita.engine.speedup import speedup, unspeed
from lorita.models.gguf_layout import LAYOUTS
from tests.engine import own_step
from tests.engine.families import CONFIGS
from tests.engine.known_models import INTERFACE, KNOWN, OWN, PAGE, THEIRS, Known, in_page
from tests.engine.steps import LENGTHS
from tests.zoo import build

HYBRIDS = [known.model_type for known in KNOWN if known.recurrent]
OTHERS = [known for known in KNOWN if known.model_type not in CONFIGS]


@cache
def _tuned(model_type: str) -> nn.Module:
    return own_step.adapted(build(model_type))


def tuned(model_type: str) -> Any:
    """A tiny model with an adapter on it, as it was made."""
    model = _tuned(model_type)
    unspeed(model)
    return model.train()


@pytest.mark.parametrize("known", OTHERS, ids=lambda known: known.model_type)
def test_same_loss_and_gradients_and_as_documented(known: Known) -> None:
    model = tuned(known.model_type)
    own = own_step.step(model, own_step.loss_alone(model))
    assert own_step.difference(own_step.step(model, own_step.loss_padded(model)), own) < 1e-3
    fast, report = own_step.fast_step(model)
    assert own_step.difference(fast, own) < 1e-3, report
    assert report.rows == known.rows, report
    assert bool(report.replaced[MIXER]) == (known.recurrent and known.rows == "packed")
    attentions = [m for m in causal_lm(model).modules() if looks_like_attention(m)]
    by_interface = any("interface" in what for what in report.replaced)
    found = OWN if report.replaced["attention"] else INTERFACE if by_interface else THEIRS
    assert known.attention == (found if attentions else ""), report


@pytest.mark.parametrize("known", OTHERS, ids=lambda known: known.model_type)
def test_who_writes_text(known: Known) -> None:
    model = tuned(known.model_type).eval()
    assert (disagreement(model, Decoder) is None) == (known.text == OWN)


@pytest.mark.parametrize("model_type", HYBRIDS)
def test_no_state_runs_from_one_row_into_the_next(model_type: str) -> None:
    """The loss of the second row is its loss alone, whatever comes before it."""
    model = tuned(model_type).eval()
    rows = own_step.rows_on(model)[0].split(LENGTHS)
    speedup(model)
    for before in (rows[0], rows[0].flip(0), rows[2]):
        together = torch.cat([before, rows[3]])
        wanted = torch.cat([torch.full_like(before, -100), rows[3]])
        with torch.no_grad():
            got = packed_loss(model, together, wanted, (len(before), len(rows[3])))
            logits = model(input_ids=rows[3][None], use_cache=False).logits[0, :-1]
        alone = functional.cross_entropy(logits.float(), rows[3][1:], reduction="sum")
        torch.testing.assert_close(got, alone, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("model_type", ["lfm2", "granitemoehybrid", "qwen3_5_text", "mamba2"])
def test_rows_that_share_a_beginning(model_type: str) -> None:
    """The state after the beginning is the one from which each row goes on."""
    model = tuned(model_type)
    ids, _ = own_step.rows_on(model)
    start, first, second = ids[:6], ids[6:11], ids[11:14]
    targets = [torch.cat([torch.full_like(rest[:1], -100), rest[1:]]) for rest in (first, second)]
    none = torch.full_like(start, -100)
    speedup(model)
    apart = packed_loss(
        model,
        torch.cat([start, first, start, second]),
        torch.cat([none, targets[0], none, targets[1]]),
        (len(start) + len(first), len(start) + len(second)),
    )
    own = own_step.step(model, apart)
    shared = packed_loss(
        model,
        torch.cat([start, first, second]),
        torch.cat([none, *targets]),
        (len(start), len(first), len(second)),
        continues=(None, 0, 0),
    )
    assert own_step.difference(own_step.step(model, shared), own) < 1e-4


def test_a_recurrent_layer_is_one_with_a_convolution() -> None:
    found = {
        type(m).__name__ for kind in HYBRIDS for m in build(kind).modules() if looks_like_mixer(m)
    }
    assert {"Lfm2ShortConv", "GraniteMoeHybridMambaLayer", "Qwen3_5GatedDeltaNet"} <= found
    assert not any(looks_like_mixer(module) for module in build("llama").modules())


def test_gguf_is_what_there_is_a_layout_for() -> None:
    assert [k.name for k in KNOWN if k.gguf != (k.model_type in LAYOUTS)] == []


def test_the_page_has_the_table() -> None:
    text = PAGE.read_text("utf-8")
    assert text == in_page(text), "python -m tests.engine.known_models writes it"
