"""Autocast follows the number format of the weights, and the plain loss follows autocast."""

from __future__ import annotations

import pytest
import torch

from lorita.data.batches import MicroBatch
from lorita.data.examples import Example
from lorita.engine.autocast import autocast_dtype, autocast_for
from lorita.training.objective import padded_loss
from tests.engine.steps import LENGTHS, gradients, plain_loss, rows, tuned

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("dtype", "product"),
    [
        (torch.float16, torch.float16),
        (torch.bfloat16, torch.bfloat16),
        (torch.float32, torch.float32),
        (torch.float64, torch.float32),
    ],
)
def test_products_have_the_format_of_the_weights(dtype: torch.dtype, product: torch.dtype) -> None:
    module = torch.nn.Linear(2, 2, dtype=dtype)
    x = torch.zeros(2, 2)
    with autocast_for(module, CPU):
        assert autocast_dtype(x) is (dtype if dtype.itemsize == 2 else None)
        assert (x @ x).dtype == product
    assert autocast_dtype(x) is None


def batch() -> MicroBatch:
    """The packed rows as examples."""
    pieces = zip(*(ids_T.split(LENGTHS) for ids_T in rows()), strict=True)
    return MicroBatch(
        [Example(ids.tolist(), labels.tolist(), i) for i, (ids, labels) in enumerate(pieces)]
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_plain_loss_is_computed_in_the_format_of_the_model(dtype: torch.dtype) -> None:
    """float16 models were autocast to bfloat16, which has three bits less."""
    model = tuned("llama", dtype)
    formats = []
    model.register_forward_hook(lambda *call: formats.append(call[-1].logits.dtype))
    loss = padded_loss(model, pad_id=0, device=CPU)(batch())
    found = gradients(model, loss)
    assert formats == [dtype]
    exact = tuned("llama", dtype).float()
    expected = plain_loss(exact)
    assert abs(loss - expected) < 8 * torch.finfo(dtype).eps * expected
    for name, gradient in gradients(exact, expected).items():
        assert (found[name] - gradient).norm() < 16 * torch.finfo(dtype).eps * gradient.norm()
