"""Lower layers computed once: the same losses and gradients, and the work is indeed saved."""

from __future__ import annotations

import pytest
import torch

from lorita.engine.frozen_layers import BottomCache, bottom_cache
from lorita.engine.packed_model import packed_loss
from lorita.engine.speedup import speedup
from tests.engine.steps import LENGTHS, gradients, rows, tuned

TARGETS = {
    "llama": ["q_proj", "down_proj"],
    "bloom": ["query_key_value"],
    "gpt2": ["c_attn"],
    "falcon-new": ["query_key_value"],
    "opt": ["q_proj"],
    "gpt_neox": ["query_key_value"],
}


@pytest.mark.parametrize("family", TARGETS)
def test_the_second_epoch_is_the_first_without_its_lower_layers(family: str) -> None:
    model = tuned(family, target_modules=TARGETS[family], layers_to_transform=[1])
    for name in ("hidden_dropout", "attention_dropout"):
        if hasattr(model.get_base_model().config, name):
            setattr(model.get_base_model().config, name, 0.0)
    speedup(model)
    cache = bottom_cache(model.get_base_model(), limit=10**6)
    assert isinstance(cache, BottomCache), cache
    assert cache.first == 1
    plain = packed_loss(model, *rows(), LENGTHS)
    expected = gradients(model, plain)
    ids = list(range(len(LENGTHS)))
    for _ in range(2):
        loss = packed_loss(model, *rows(), LENGTHS, bottom=cache, row_ids=ids)
        assert torch.equal(loss, plain)
        for name, gradient in gradients(model, loss).items():
            assert torch.equal(gradient, expected[name])
        # From here on, computing the lower layer would make everything NaN.
        for parameter in cache.layers[0].parameters():
            parameter.data.fill_(float("nan"))
    assert cache.bytes == sum(LENGTHS) * model.get_base_model().config.hidden_size * 4
    assert len(cache.rows) == len(LENGTHS)


def test_rows_in_another_order_and_beyond_the_limit() -> None:
    model = tuned("llama", target_modules=["q_proj"], layers_to_transform=[1])
    speedup(model)
    one_row = 9 * 32 * 4
    cache = bottom_cache(model.get_base_model(), limit=one_row)
    assert isinstance(cache, BottomCache)
    ids, labels = rows()
    packed_loss(model, ids, labels, LENGTHS, bottom=cache, row_ids=[5, 6, 7, 8])
    assert list(cache.rows) == [5]
    alone = packed_loss(model, ids[:9], labels[:9], [9])
    again = packed_loss(model, ids[:9], labels[:9], [9], bottom=cache, row_ids=[5])
    torch.testing.assert_close(again, alone)


def test_no_cache_where_the_states_would_change() -> None:
    all_layers = tuned("llama", target_modules=["q_proj"])
    assert bottom_cache(all_layers.get_base_model(), 10**6) == "the first layer is adapted"
    drops = tuned("gpt2", target_modules=["c_attn"], layers_to_transform=[1])
    drops.get_base_model().config.resid_pdrop = 0.1
    assert "drop activations" in str(bottom_cache(drops.get_base_model(), 10**6))
