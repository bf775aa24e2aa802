"""Texts written by the engine are those of transformers' ``generate``, in every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig

from lorita.engine.decoding.choose import Choice
from lorita.engine.decoding.decoder import usable_decoder
from lorita.engine.decoding.writer import Request, Text, Writer
from lorita.engine.kernels import native
from lorita.engine.speedup import speedup
from lorita.errors import ModelError
from tests.engine.families import CONFIGS, VOCAB, make
from tests.engine.steps import tuned

NEW = 10


def prompts(count: int = 3) -> list[list[int]]:
    """Prompts of different lengths, longer and shorter than the windows of the tiny models."""
    generator = torch.Generator().manual_seed(5)
    lengths = (7, 2, 11, 4, 1)[:count]
    return [torch.randint(3, VOCAB, (n,), generator=generator).tolist() for n in lengths]


def own(model: Any, prompt: list[int], choice: Choice, count: int = NEW, **how: Any) -> list[int]:
    """What transformers itself writes after one prompt."""
    ids_1L = torch.tensor([prompt])
    torch.manual_seed(choice.seed)
    sampling = {"temperature": choice.temperature, "top_k": choice.top_k, "top_p": choice.top_p}
    out_1L = model.generate(
        input_ids=ids_1L,
        attention_mask=torch.ones_like(ids_1L),
        max_new_tokens=count,
        repetition_penalty=choice.repetition_penalty,
        do_sample=choice.do_sample,
        eos_token_id=-1,
        pad_token_id=0,
        **(sampling if choice.do_sample else {}),
        **how,
    )
    return out_1L[0, len(prompt) :].tolist()  # type: ignore[no-any-return]


def written(model: Any, asked: list[Request], names: tuple[str, ...] = ()) -> list[list[int]]:
    """The texts; the last one joins when the others are under way."""
    decoder = usable_decoder(model, names)
    assert decoder is not None
    writer = Writer(decoder)
    texts: list[Text] = writer.prefill(asked[:-1]) if asked[:-1] else []
    writer.step()
    texts += writer.prefill(asked[-1:])
    while writer.open:
        writer.step()
    return [text.tokens for text in texts]


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("family", CONFIGS)
def test_every_family(family: str, adapted: bool) -> None:
    model = tuned(family).eval() if adapted else make(family)
    choice = Choice(repetition_penalty=1.3)
    expected = [own(model, prompt, choice) for prompt in prompts()]
    assert written(model, [Request(p, NEW, choice=choice) for p in prompts()]) == expected


@pytest.mark.parametrize(
    "choice",
    [
        Choice(),
        Choice(repetition_penalty=0.7),
        Choice(do_sample=True, seed=3),
        Choice(2.0, do_sample=True, temperature=1.7, top_k=9, seed=4),
        Choice(1.1, do_sample=True, temperature=0.6, top_p=0.8, seed=5),
    ],
    ids=str,
)
def test_ways_to_choose(choice: Choice) -> None:
    """Drawn texts, too: each is the one that its prompt would get alone with this seed."""
    model = make("qwen3")
    expected = [own(model, prompt, choice) for prompt in prompts()]
    assert written(model, [Request(p, NEW, choice=choice) for p in prompts()]) == expected


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom", "gemma2"])
def test_an_adapter_for_each_text(family: str) -> None:
    model: Any = tuned(family).eval()
    model.add_adapter("other", LoraConfig(r=2, lora_alpha=9, target_modules="all-linear"))
    for name, parameter in model.named_parameters():
        if "other" in name and "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    expected = []
    for name, prompt in zip(["default", "other"], prompts(2), strict=True):
        model.set_adapter(name)
        expected.append(own(model, prompt, Choice()))
    with model.disable_adapter():
        expected.append(own(model, prompts()[2], Choice()))
        bare = written(model, [Request(prompts()[2], NEW)])
    adapters = ["default", "other", None]
    asked = [Request(p, NEW, adapter=a) for p, a in zip(prompts(), adapters, strict=True)]
    assert written(model, asked, ("default", "other")) == expected
    assert bare == expected[2:]
    assert len(set(map(tuple, expected))) > 1


def test_stops_and_leaving() -> None:
    model = make("llama")
    decoder = usable_decoder(model)
    assert decoder is not None
    first = own(model, prompts()[0], Choice())
    writer = Writer(decoder)
    stopped, left, whole = writer.prefill(
        [
            Request(prompts()[0], NEW, frozenset({first[2]})),
            Request(prompts()[1], NEW),
            Request(prompts()[2], 400),  # the cache grows meanwhile
        ]
    )
    writer.leave(left)
    writer.leave(left)
    (again,) = writer.prefill([Request(prompts()[1], 1)])  # in the place of the one that left
    while writer.open:
        writer.step()
    assert stopped.tokens == first[: first.index(first[2]) + 1]
    assert left.finished
    assert left.tokens == again.tokens
    assert whole.tokens[:NEW] == own(model, prompts()[2], Choice())
    assert len(whole.tokens) == 400
    with pytest.raises(ValueError, match="33 texts"):
        writer.prefill([Request([1], 1)] * 33)


def test_the_model_stays_as_it_is() -> None:
    """Its modules, its mode and its adapters; and changed weights count at once."""
    model = tuned("llama").train()
    speedup(model)
    forwards = {name: vars(m).get("forward") for name, m in model.named_modules()}
    before = written(model, [Request(prompts()[0], NEW)])
    assert {name: vars(m).get("forward") for name, m in model.named_modules()} == forwards
    assert all(module.training for module in model.modules())
    assert model.config._attn_implementation == "sdpa"
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.mul_(-3)
    after = written(model, [Request(prompts()[0], NEW)])
    assert before != after == [own(model.eval(), prompts()[0], Choice())]


@pytest.mark.parametrize("family", ["llama", "gemma3", "bloom"])
def test_bf16_is_no_worse_than_the_model_itself(family: str) -> None:
    exact, rough = make(family), make(family, torch.bfloat16)
    exact.load_state_dict({n: w.float() for n, w in rough.state_dict().items()})
    decoder = usable_decoder(rough)
    assert decoder is not None
    errors = torch.zeros(2)
    for prompt in prompts(5):
        slots, first_1V = decoder.prefill([prompt])
        second_1V = decoder.step(slots, [prompt[0]])
        ids_1L = torch.tensor([[*prompt, prompt[0]]])
        with torch.no_grad():
            wanted, plain = (m(input_ids=ids_1L).logits[0, -2:].float() for m in (exact, rough))
        mine = torch.cat([first_1V, second_1V])
        errors += torch.stack([(mine - wanted).norm(), (plain - wanted).norm()])
    assert errors[0] <= 1.1 * errors[1]


def test_logits_that_are_not_numbers() -> None:
    model = make("llama")
    decoder = usable_decoder(model)
    assert decoder is not None
    model.get_input_embeddings().weight.data[5] = float("nan")
    with pytest.raises(ModelError, match="not numbers"):
        Writer(decoder).prefill([Request([4, 5], 3)])


def test_products_use_every_kernel() -> None:
    if native.kernel("rms_norm", torch.zeros(1)) is None:
        pytest.skip(native.status())
    assert native.kernel("products", torch.zeros(1)) is not None
    assert native.kernel("attend", torch.zeros(1, dtype=torch.bfloat16)) is not None
