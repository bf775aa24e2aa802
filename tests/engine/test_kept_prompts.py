"""Prompts of an activated LoRA computed once: losses and gradients are those of whole rows."""

from __future__ import annotations

import random
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from lorita.data.batches import MicroBatch, micro_batches
from lorita.data.examples import IGNORE, Example
from lorita.engine import kept_prompts as module
from lorita.engine.causal_lm import causal_lm
from lorita.engine.kept_prompts import KeptPrompts, kept_prompts
from lorita.engine.kernels import native
from lorita.engine.patch import patch_of
from lorita.engine.speedup import speedup
from lorita.training.objective import end_to_end_loss
from lorita.training.step import smaller_budget
from tests.engine.families import CONFIGS
from tests.engine.steps import tuned
from tests.training.test_shared_beginnings import FAMILIES, WIDE, require_equal

INVOCATION = [91, 92, 93]
CPU = torch.device("cpu")
ROOM = 10**7


@pytest.fixture(autouse=True)
def short_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of these rows are short, and yet computed apart."""
    monkeypatch.setattr(module, "LEAST_ONCE", 1)
    monkeypatch.setattr(module, "LEAST_KEPT", 1)


def rows(masked: bool = True) -> list[Example]:
    """With a prompt, at the very beginning, in two turns, at the end, and without an invocation."""
    chance = random.Random(0)

    def some(count: int) -> list[int]:
        return [chance.randrange(3, 90) for _ in range(count)]

    made = []
    for number, (before, after) in enumerate([(20, 6), (0, 5), (9, 9), (11, 0), (3, 12)]):
        ids = some(before) + INVOCATION + some(after)
        if number == 2:
            ids[2:5] = INVOCATION
        hidden = before + len(INVOCATION) if masked and after else 0
        made.append(Example(ids, [IGNORE] * hidden + ids[hidden:], number))
    made.append(Example(some(8), [3] * 8, 5))
    return made


def adapted(name: str, changes: dict[str, Any], **lora: Any) -> nn.Module:
    return tuned(name, changes=changes, alora_invocation_tokens=INVOCATION, **lora)


def keeping(model: nn.Module, limit: int = ROOM) -> KeptPrompts:
    found = kept_prompts(model, limit)
    assert isinstance(found, KeptPrompts), found
    return found


def step(
    model: nn.Module, examples: list[Example], prompts: KeptPrompts | None
) -> dict[str, torch.Tensor]:
    """Loss and gradients, by name."""
    model.zero_grad()
    torch.manual_seed(0)
    loss = end_to_end_loss(model, device=CPU, prompts=prompts)(MicroBatch(examples))
    loss.backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **grads}


def equal_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("kernels", ["native", "torch"])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(("name", "changes"), FAMILIES, ids=[name for name, _ in FAMILIES])
def test_loss_and_gradients(name: str, changes: dict[str, Any], masked: bool, kernels: str) -> None:
    with native.disabled() if kernels == "torch" else nullcontext():
        model = adapted(name, changes)
        speedup(model)
        prompts, examples = keeping(model), rows(masked)
        prompts.look_at(example.input_ids for example in examples)
        whole = step(model, examples, None)
        first, second = (step(model, examples, prompts) for _ in range(2))
        require_equal(first, whole)
        equal_bits(first, second)
        assert len(prompts.prompts) == 4
        assert prompts.expected == prompts.bytes > 0
        assert prompts.bytes == sum(prompt.bytes for prompt in prompts.prompts.values())


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - {name for name, _ in FAMILIES}))
def test_every_family_agrees_or_says_why_not(name: str) -> None:
    model = adapted(name, {})
    speedup(model)
    found, examples = kept_prompts(model, ROOM), rows()
    if isinstance(found, str):
        assert found == "rows of this model are not laid end to end"
        return
    require_equal(step(model, examples, found), step(model, examples, None))


def test_kept_prompts_are_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, computed = adapted("llama", WIDE), []
    speedup(model)
    real = module._computed
    monkeypatch.setattr(
        module, "_computed", lambda *a, **k: computed.append(len(a[2])) or real(*a, **k)
    )
    prompts, examples = keeping(model), rows()
    computed.clear()  # of the check
    step(model, examples, prompts)
    step(model, examples[::-1], prompts)
    assert sorted(computed) == [4, 10, 12, 21]  # with the first token of the invocation


def test_what_all_prompts_begin_with_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, computed = adapted("gemma2", {"head_dim": 16}), []
    speedup(model)
    real = module._computed

    def counted(lm: Any, patch: Any, ids: Any, labels: Any, after: Any = None) -> Any:
        computed.append(len(ids) - (after.tokens if after else 0))
        return real(lm, patch, ids, labels, after)

    prompts, common = keeping(model), list(range(10, 30))
    examples = []
    for row in rows()[:4]:
        ids = common + row.input_ids
        examples.append(Example(ids, [IGNORE] * len(common) + row.labels, row.row))
    prompts.look_at(example.input_ids for example in examples)
    assert prompts.common == tuple(common)
    whole = step(model, examples, None)
    monkeypatch.setattr(module, "_computed", counted)
    require_equal(step(model, examples, prompts), whole)
    # The common one, and each with one token more. The common tokens of the last row predict a
    # target, so they are computed with it.
    assert sorted(computed) == [1, 10, 21, 21, 11 + 20 + 1]
    computed.clear()
    require_equal(step(model, examples[::-1], prompts), whole)
    assert not computed
    trained = [Example(e.input_ids, e.input_ids, e.row) for e in examples]
    require_equal(step(model, trained, prompts), step(model, trained, None))
    prompts.look_at([[1, *INVOCATION]])
    assert (prompts.common, prompts.count, prompts.expected) == ((), 1, prompts.token_bytes)


@pytest.mark.parametrize("limit", [0, 3000])
def test_beyond_the_limit_they_are_computed_each_time(limit: int) -> None:
    model, examples = adapted("llama", WIDE), rows()
    speedup(model)
    prompts = keeping(model, limit)
    first, second = (step(model, examples, prompts) for _ in range(2))
    equal_bits(first, second)
    equal_bits(first, step(model, examples, keeping(model)))
    assert prompts.bytes <= limit


def test_alone_or_with_others_they_are_the_same_to_the_bit() -> None:
    """A run that is resumed has kept nothing, and fills its micro-batches from another step on."""
    model, examples = adapted("llama", WIDE), rows()
    speedup(model)
    one, other = keeping(model), keeping(model)
    for example in examples:
        step(model, [example], one)
    step(model, examples, other)
    assert one.prompts.keys() == other.prompts.keys()
    for key, prompt in one.prompts.items():
        for place, states in prompt.states.items():
            for mine, theirs in zip(states, other.prompts[key].states[place], strict=True):
                assert torch.equal(mine, theirs)


def test_dropout_of_the_adapter_does_not_depend_on_what_is_kept() -> None:
    model, examples = adapted("llama", WIDE, lora_dropout=0.5), rows()
    speedup(model)
    prompts = keeping(model)
    equal_bits(*(step(model, examples, prompts) for _ in range(2)))


@pytest.mark.parametrize("how", ["checkpointing", "int8", "bfloat16", "not packed"])
def test_ways_to_compute(how: str) -> None:
    dtype = torch.bfloat16 if how == "bfloat16" else torch.float32
    model = tuned("llama", dtype, changes=WIDE, alora_invocation_tokens=INVOCATION)
    speedup(model, base_precision="int8" if how == "int8" else None)
    if how == "checkpointing":
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    prompts, patch = keeping(model), patch_of(causal_lm(model))
    assert patch is not None
    if how == "not packed":  # as after a call that the fast step does not know
        patch.rows = "padded"
    tolerance = {"int8": 5e-2, "bfloat16": 5e-2}.get(how, 2e-5)
    require_equal(step(model, rows(), prompts), step(model, rows(), None), tolerance)


def test_models_that_cannot_have_it_say_why() -> None:
    mixing = adapted("llama", WIDE)
    speedup(mixing)

    def mix(module: nn.Module, args: Any, out: torch.Tensor) -> torch.Tensor:
        return out + 0.3 * out.roll(1, dims=1)

    causal_lm(mixing).model.layers[0].mlp.register_forward_hook(mix)
    assert "hidden states would differ" in str(kept_prompts(mixing, ROOM))

    dropping = adapted("gpt2", {"resid_pdrop": 0.1})
    speedup(dropping)
    assert "drops activations" in str(kept_prompts(dropping, ROOM))

    plain = tuned("llama", changes=WIDE)
    speedup(plain)
    assert "one activated adapter" in str(kept_prompts(plain, ROOM))
    assert "end to end" in str(kept_prompts(adapted("llama", WIDE), ROOM))


def test_short_prompts_are_computed_with_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one they would take longer than they save."""
    monkeypatch.undo()
    for limit, least in ((ROOM, module.LEAST_KEPT), (0, module.LEAST_ONCE)):
        prompts = KeptPrompts((1, 2), limit, 10)
        short, long = [5] * (least - 1) + [1, 2], [5] * least + [1, 2]
        assert (prompts.length(short), prompts.length(long)) == (0, least)
        assert (prompts.cost(short), prompts.cost(long)) == (least + 1, 2 + least // module.COST)
        prompts.look_at([short, short])
        assert prompts.count == prompts.expected == 0
        prompts.look_at([short, long])
        assert (prompts.count, prompts.expected) == (1, min(limit, 10 * least))


def test_angles_that_depend_on_the_length_are_refused() -> None:
    """A prompt alone would get others than within its row."""
    long = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    model = adapted("llama", {**WIDE, "rope_parameters": long})
    speedup(model)
    assert "depend on the length" in str(kept_prompts(model, ROOM))


def test_when_memory_runs_out_rows_are_halved_by_what_is_computed() -> None:
    prompts = KeptPrompts((1, 2), ROOM)
    long = Example([5] * 800 + [1, 2, 3], [IGNORE] * 800 + [1, 2, 3], 0)
    assert smaller_budget(700, [long] * 4) is None
    assert smaller_budget(700, [long] * 4, prompts.cost) == 2 * prompts.cost(long.input_ids)


def test_micro_batches_count_what_is_computed() -> None:
    prompts = KeptPrompts((1, 2), 0)
    assert prompts.cost([5] * 17 + [1, 2, 9]) == 3 + 3
    assert prompts.cost([5] * 7) == 7
    long = Example([5] * 80 + [1, 2, 3], [IGNORE] * 80 + [1, 2, 3], 0)
    assert [len(b.examples) for b in micro_batches([long] * 4, 30, cost=prompts.cost)] == [2, 2]
