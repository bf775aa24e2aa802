"""Whole runs on weights that stay or are quantised: the same numbers from training to answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import lorita
from lorita.cli import run as command
from lorita.engine.block_tensor import BlockTensor
from lorita.errors import Interrupted, LoritaWarning, ModelError, SettingsError
from lorita.export.merged.weights import weights
from lorita.models.base import find_base
from lorita.models.base_precision import with_precision
from lorita.models.base_weights import load_model
from lorita.system.memory import CONTAINER, Room
from lorita.training.events import Note, StepDone
from tests.export.models import with_adapter
from tests.models.gguf_bases import write_gguf
from tests.runs.test_run import train

ADAPTER = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def gguf_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf"), "llama", quantize="q8_0")


def recorded(run: Path) -> Any:
    return json.loads((run / "lorita.json").read_text())["base"]["precision"]


def test_a_run_on_the_blocks_of_a_file(gguf_base: Path, prompts: Path, tmp_path: Path) -> None:
    """As on the same numbers in memory; resumed, evaluated and asked as it was trained."""
    options: dict[str, Any] = {"base_precision": "native", "compare_prompt": ["I act as "]}
    plain = train(tmp_path / "plain", gguf_base, prompts)
    whole = train(tmp_path / "whole", gguf_base, prompts, **options)
    assert (recorded(tmp_path / "plain"), recorded(tmp_path / "whole")) == (None, "native")
    assert whole.losses == pytest.approx(plain.losses, abs=1e-3)

    def stop(event: Any) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, Interrupted)):
        train(tmp_path / "cut", gguf_base, prompts, **options, save_steps=2, on_event=stop)
    train(tmp_path / "cut", gguf_base, prompts, **options, save_steps=2, resume=True)
    assert (tmp_path / "cut" / ADAPTER).read_bytes() == (tmp_path / "whole" / ADAPTER).read_bytes()

    tuned = lorita.load(tmp_path / "whole", dtype="float32")
    assert any(isinstance(p, BlockTensor) for p in tuned.model.parameters())
    compared = json.loads((tmp_path / "whole" / "compare.json").read_text())
    asked = compared["answers"][0]
    said = tuned.generate(asked["prompt"], max_new_tokens=8)
    assert said.strip() == asked["after"].strip()


@pytest.mark.parametrize("precision", ["q8", "q4"])
def test_a_run_on_weights_that_are_quantised_when_loaded(
    llama: Path, prompts: Path, tmp_path: Path, precision: str
) -> None:
    run = tmp_path / "run"
    train(run, llama, prompts, base_precision=precision)
    assert recorded(run) == precision
    tuned = lorita.load(run)
    assert any(isinstance(p, BlockTensor) for p in tuned.model.parameters())
    again = lorita.load(run).generate("I act as ", max_new_tokens=4)
    assert again == tuned.generate("I act as ", max_new_tokens=4)


@pytest.mark.parametrize(
    ("precision", "form"),
    [
        ("native", "the file's own blocks"),
        ("q8", "Q8_0 blocks"),
        ("q4", "Q4_1 blocks"),
        (None, "bfloat16"),
    ],
)
def test_the_plan_names_the_form_of_the_weights(
    gguf_base: Path,
    llama: Path,
    capsys: pytest.CaptureFixture[str],
    precision: str | None,
    form: str,
) -> None:
    model = gguf_base if precision == "native" else llama
    options = ["--base-precision", precision] if precision else []
    assert command(["plan", str(model), *options]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if "weights in memory" in x)
    assert f" MB in {form}" in line
    assert ("float32" in line) is (precision is None)


def test_it_is_chosen_where_nothing_else_fits(
    gguf_base: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lorita.models import memory_needs
    from lorita.runs import base_form

    real = memory_needs.weight_bytes

    def heavy(base: Any, sizes: Any, itemsize: int) -> int:
        return real(base, sizes, itemsize) + (0 if base.precision else 10**12)

    monkeypatch.setattr("lorita.runs.memory_plan.weight_bytes", heavy)
    monkeypatch.setattr(base_form, "room", lambda: Room(10**11, 0, CONTAINER))
    notes: list[str] = []
    train(
        tmp_path / "run", gguf_base, prompts, dtype="auto", max_steps=1,
        on_event=lambda event: notes.append(event.text) if isinstance(event, Note) else None,
    )  # fmt: skip
    assert recorded(tmp_path / "run") == "native"
    assert any("they stay quantised, as with --base-precision native" in note for note in notes)


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"base_precision": "native"}, ModelError, "is for GGUF files"),
        ({"base_precision": "q8", "modules_to_save": "lm_head"}, SettingsError, "keeps quantised"),
        ({"base_precision": "q8", "add_tokens": ["<x>"]}, SettingsError, "keeps quantised"),
        ({"base_precision": "q5"}, SettingsError, "'int8', 'native', 'q8' or"),
    ],
)
def test_refused_before_anything_is_written(
    llama: Path, prompts: Path, tmp_path: Path, options: dict[str, Any], kind: Any, said: str
) -> None:
    with pytest.raises(kind, match=said):
        train(tmp_path / "run", llama, prompts, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("precision", ["native", "q8"])
def test_merged_and_taken_elsewhere(
    gguf_base: Path, llama: Path, prompts: Path, tmp_path: Path, precision: str
) -> None:
    """A merged model holds the quantised numbers plus the adapter, as ordinary ones."""
    run, merged = tmp_path / "run", tmp_path / "merged"
    train(run, gguf_base if precision == "native" else llama, prompts, base_precision=precision)
    assert command(["merge", str(run), str(merged), "--dtype", "float32"]) == 0
    tuned, whole = lorita.load(run, dtype="float32"), lorita.load(merged, dtype="float32")
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        expected, found = (model(ids).logits for model in (tuned.model, whole.model))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert not any(isinstance(p, BlockTensor) for p in whole.model.parameters())
    if precision == "native":  # llama.cpp checks the file and compares its answers
        assert command(["export", "gguf", str(run), str(tmp_path / "a.gguf"), "--merged"]) == 0


def test_reading_merged_weights_leaves_the_base_quantised(llama: Path) -> None:
    base = with_precision(find_base(str(llama)), "q8")
    model = with_adapter(load_model(base, torch.float32))
    before = [(name, p.data_ptr()) for name, p in model.named_parameters()]
    read = {weight.name: weight.read() for weight in weights(model)}
    assert not any(isinstance(tensor, BlockTensor) for tensor in read.values())
    assert [(name, p.data_ptr()) for name, p in model.named_parameters()] == before


def test_used_on_other_numbers_is_said(llama: Path, prompts: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(run, llama, prompts, base_precision="q4", max_steps=1)
    with pytest.warns(LoritaWarning, match=r"trained on weights that were quantised \(q4\)"):
        lorita.load(llama, adapters={"a": run})


def test_dora_on_quantised_weights(llama: Path, prompts: Path, tmp_path: Path) -> None:
    """PEFT's own layers get the numbers: nothing but the fast product is lost."""
    train(tmp_path / "run", llama, prompts, base_precision="q8", use_dora=True, max_steps=2)
    assert torch.isfinite(lorita.load(tmp_path / "run").model.lm_head.weight.float()).all()
