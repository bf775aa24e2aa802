"""What a base takes is reckoned from shapes, and said before any weight is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lorita.engine.packed_model import packed_loss
from lorita.engine.speedup import speedup
from lorita.errors import ModelError
from lorita.inference.checked_base import load_checked_base
from lorita.inference.resolve import resolve
from lorita.models import memory_needs
from lorita.models.adapter import attach, lora_config
from lorita.models.base import find_base
from lorita.models.memory_needs import (
    answering_needs,
    base_sizes,
    droppable_bytes,
    idle_inputs,
    loading_bytes,
)
from lorita.system.memory import ADDRESSES, CONTAINER, Room
from tests import tiny


def test_sizes_are_those_of_the_model(llama: Path) -> None:
    base, model = find_base(str(llama)), tiny.make_model("llama")
    sizes = base_sizes(base)
    assert sizes is not None
    assert sizes.numbers == sum(p.numel() for p in model.parameters())
    weights = 4 * sizes.numbers
    assert loading_bytes(base, sizes, 4) == weights  # mapped from the file
    assert weights / 2 < loading_bytes(base, sizes, 2) < weights  # converted, tensor by tensor
    assert droppable_bytes(base, sizes, 4, fast=False) == 0
    assert 0 < droppable_bytes(base, sizes, 4, fast=True) < weights  # some are joined


def test_a_file_that_is_not_mapped_twice(llama: Path) -> None:
    """The copy of joined weights leaves pages that the system may drop, but not the addresses."""
    base = find_base(str(llama))
    sizes = base_sizes(base)
    assert sizes is not None
    needs = answering_needs(base, sizes, 4, fast=True)
    least = needs.least(Room(0, 0, CONTAINER))
    assert needs.least(Room(0, 0, ADDRESSES)) == least + 4 * sizes.joined


@pytest.mark.parametrize("limit", [CONTAINER, ADDRESSES])
def test_refused_before_anything_is_loaded(
    llama: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("weights were read")

    monkeypatch.setattr(memory_needs, "room", lambda: Room(10_000_000, 590_000_000, limit))
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", never)
    with pytest.raises(ModelError, match=rf"needs about 0\.7 GB of memory.*{limit} 0\.6 GB"):
        load_checked_base(resolve(llama), "float32")


def test_only_pages_of_a_file_may_exceed_a_container(llama: Path) -> None:
    """Weights that were converted are in memory that the system cannot read again."""
    base = find_base(str(llama))
    sizes = base_sizes(base)
    assert sizes is not None
    mapped, converted = (answering_needs(base, sizes, itemsize) for itemsize in (4, 2))
    for needs, fits in ((mapped, True), (converted, False)):
        most = needs.least(Room(0, 0, CONTAINER))
        assert needs.fit(Room(int(most / 1.05), 0, CONTAINER)) is fits


def test_nothing_is_reckoned_where_there_is_plenty(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_needs, "base_sizes", lambda base: pytest.fail("not needed"))
    monkeypatch.setattr(memory_needs, "room", lambda: Room(4 * 10**9, 10**9, CONTAINER))
    memory_needs.require_memory(find_base(str(llama)), 4)


def test_what_the_reckoning_imports_is_used(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once in a container of 600 MB, 100 were taken after they had been counted as free."""
    used = [200_000_000]

    def sizes(base: Any) -> Any:
        used[0] += 100_000_000  # the model's code
        return base_sizes(base)

    monkeypatch.setattr(memory_needs, "base_sizes", sizes)
    monkeypatch.setattr(
        memory_needs, "room", lambda: Room(used[0], 600_000_000 - used[0], CONTAINER)
    )
    found = memory_needs.sizes_and_room(find_base(str(llama)))
    assert found is not None
    assert found[1].used == 300_000_000


TOKENS = 24


def kept_bytes(targets: Any) -> tuple[int, int]:
    """What the fast step keeps of a tiny Llama for the backward pass; and the idle inputs."""
    model = tiny.make_model("llama")
    options = {"r": 2, "lora_alpha": 4, "target_modules": targets}
    adapted = attach(model, lora_config(model, options), seed=0)
    speedup(adapted)
    weights = {p.untyped_storage().data_ptr() for p in adapted.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.arange(TOKENS)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = packed_loss(adapted, ids, ids, [TOKENS])
    assert loss.requires_grad
    return sum(kept.values()), idle_inputs(adapted)


@pytest.mark.parametrize(
    "targets, idle",
    [
        (["q_proj", "v_proj"], 32 + 64),  # gate_proj and up_proj; down_proj
        (["up_proj"], 32 + 64),  # attention; down_proj
        (["down_proj"], 32 + 32),
    ],
)
def test_inputs_that_no_adapter_reads_are_not_kept(targets: Any, idle: int) -> None:
    """Tiny Llama: two layers, hidden size 32, 64 between."""
    everything, none = kept_bytes("all-linear")
    fewer, found = kept_bytes(targets)
    assert (none, found) == (0, 2 * idle)
    assert everything - fewer >= 4 * TOKENS * found


def test_parts_without_an_adapter_do_not_count() -> None:
    """What reads images runs without a gradient, if at all."""
    model = tiny.make_model("llama")
    model.tower = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(16, 16) for _ in range(3)])})
    options = {"r": 2, "lora_alpha": 4, "target_modules": r".*model\.layers.*_proj"}
    assert idle_inputs(attach(model, lora_config(model, options), seed=0)) == 0
