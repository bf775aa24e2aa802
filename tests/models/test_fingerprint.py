"""The base of an adapter is known by all of its tensors, whatever format it is in."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorita.data.tokens.prompt_format import PromptFormat
from lorita.errors import AdapterError, ModelError
from lorita.export.verify import Reference, agreement
from lorita.inference.generation import generate
from lorita.inference.options import GenerationOptions
from lorita.inference.streaming import stream
from lorita.models.fingerprint import fingerprint, fingerprint_problems, tokenizer_digest
from tests import tiny
from tests.command import refused
from tests.runs.test_run import train

LAYERS = (
    "model.layers.1.mlp.up_proj.weight",
    "model.layers.0.self_attn.k_proj.bias",
    "model.layers.1.input_layernorm.weight",
    "model.norm.weight",
)


def replace(folder: Path, name: str, value: float | None = None) -> None:
    """Another tensor in the place of one in the folder's file, or ``value`` in the midst of it."""
    tensors = load_file(folder / "model.safetensors")
    if value is None:
        torch.manual_seed(7)
        tensors[name] = torch.randn_like(tensors[name])
    else:
        tensors[name].view(-1)[: tensors[name].numel() // 2] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("name", LAYERS)
def test_one_replaced_tensor_is_noticed(name: str) -> None:
    model = tiny.make_model("llama")
    before = json.loads(json.dumps(fingerprint(model)))
    assert fingerprint_problems(before, fingerprint(model)) == []
    torch.manual_seed(7)
    model.get_parameter(name).data.normal_()
    after = fingerprint(model)
    assert before["digest"] != after["digest"]
    assert name in fingerprint_problems(before, after)[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_another_number_format_is_the_same_model(dtype: torch.dtype) -> None:
    model = tiny.make_model("llama")
    narrow = copy.deepcopy(model).to(dtype)
    assert fingerprint_problems(fingerprint(model), fingerprint(narrow)) == []
    if dtype == torch.bfloat16:  # as files in it are loaded
        again = copy.deepcopy(narrow).float()
        assert fingerprint(narrow)["digest"] == fingerprint(again)["digest"]


def test_rounding_to_few_bits_is_the_same_model() -> None:
    model = tiny.make_model("llama")
    rounded = copy.deepcopy(model)
    for parameter in rounded.parameters():
        if parameter.ndim == 2:
            step = parameter.abs().amax(-1, keepdim=True) / 7
            parameter.data = (parameter / step).round() * step
    assert fingerprint_problems(fingerprint(model), fingerprint(rounded)) == []


def test_what_earlier_versions_kept_is_compared() -> None:
    earlier = {k: v for k, v in fingerprint(tiny.make_model("llama")).items()
               if k in ("config", "sample")}  # fmt: skip
    assert fingerprint_problems(earlier, fingerprint(tiny.make_model("llama"))) == []
    assert fingerprint_problems(earlier, fingerprint(tiny.make_model("llama", seed=1)))


@pytest.mark.parametrize(
    "harm", [{"tensors": {"model.norm.weight": "x"}}, {"config": 3}, {"sample": ["a"] * 128}]
)
def test_a_damaged_fingerprint_is_one_message(harm: dict[str, Any]) -> None:
    found = fingerprint(tiny.make_model("llama"))
    with pytest.raises(AdapterError, match="damaged"):
        damaged = {k: v for k, v in found.items() if k != "tensors" or "tensors" in harm} | harm
        fingerprint_problems(damaged, found)


def test_a_tokenizer_is_known_by_its_vocabulary() -> None:
    tokenizer = tiny.make_tokenizer()
    before = tokenizer_digest(tokenizer)
    tokenizer(["a", "bc"], padding=False, truncation=True, max_length=1)  # leaves traces in it
    assert tokenizer_digest(tokenizer) == before
    tokenizer.add_tokens(["gardener"])
    assert tokenizer_digest(tokenizer) != before


@pytest.fixture(scope="module")
def run(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    data = tiny.write_csv(folder / "prompts.csv", tiny.make_texts(24))
    shutil.copytree(llama, folder / "model")
    train(folder / "run", folder / "model", data, max_steps=2, max_new_tokens=2)
    return folder / "run"


@pytest.fixture
def model(run: Path) -> Any:
    """The base of ``run``, put back afterwards."""
    file = run.parent / "model/model.safetensors"
    before = file.read_bytes()
    yield file.parent
    file.write_bytes(before)


@pytest.mark.parametrize(
    "command",
    [
        ("generate", "{run}", "I act as"),
        ("compare", "{run}", "--prompt", "I act as"),
        ("merge", "{run}", "{out}"),
        ("export", "gguf", "{run}", "{out}.gguf"),
        ("evaluate", "{run}"),
    ],
    ids=lambda command: command[0],
)
def test_every_command_notices_a_replaced_layer(
    run: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
) -> None:
    replace(model, LAYERS[0])
    message = refused(capsys, *(p.format(run=run, out=tmp_path / "out") for p in command))
    assert "was trained on another base" in message and LAYERS[0] in message
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", LAYERS[:2])
def test_a_base_with_weights_that_are_no_numbers_is_refused(
    run: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: float,
) -> None:
    replace(model, name, value)
    data, out = run.parent / "prompts.csv", tmp_path / "out"
    for command in (
        ("generate", model, "I act as"),
        ("generate", run, "I act as"),
        ("merge", run, out),
        ("train", "--model", model, "--data", data, "--text-field", "prompt", "--output-dir", out),
    ):
        message = refused(capsys, *command)
        assert "hold NaN or infinity" in message and name in message
    assert not out.exists()


def answer(model: Any, tokenizer: Any) -> object:
    return generate(model, tokenizer, ["I act"], GenerationOptions(4))


def answer_in_pieces(model: Any, tokenizer: Any) -> object:
    return list(stream(model, tokenizer, [5, 6], PromptFormat(), GenerationOptions(4)))


@pytest.mark.parametrize("ask", [answer, answer_in_pieces])
def test_answers_that_are_no_numbers_are_refused(ask: Callable[[Any, Any], object]) -> None:
    """Whatever they come from: here from a single weight that no sample sees."""
    model = tiny.make_model("llama")
    model.get_parameter(LAYERS[0]).data[3, 5] = float("nan")
    with pytest.raises(ModelError, match="not numbers"):
        ask(model, tiny.make_tokenizer())


def test_a_merge_into_nan_does_not_agree() -> None:
    model = tiny.make_model("llama")
    reference = Reference("I", [5, 6], [7], torch.zeros(2, model.config.vocab_size))
    model.get_parameter(LAYERS[0]).data[3, 5] = float("nan")
    with pytest.raises(ModelError, match="not numbers"):
        agreement(model, [reference])
