"""Initialisations through PEFT: what is saved is plain LoRA on the unchanged base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.loftq_utils import _low_rank_decomposition
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import lorita
from lorita.engine.linears import weight_of
from lorita.models.adapter import attach, plan_adapter, take_off
from lorita.models.adapter_halves import attached_options, takes_out_start
from lorita.models.adapter_start import start_adapter
from lorita.models.quantise import quantise
from lorita.training.events import Note
from tests import tiny
from tests.command import refused

SCHEMES = ["pissa", "pissa_niter_4", "olora", "lora_ga", "corda", "eva", "mica"]
ROWS = tiny.make_texts(32)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_csv(tmp_path_factory.mktemp("rows") / "rows.csv", ROWS)


def train(base: Path, rows: Path, out: Path, **options: Any) -> tuple[Any, list[str]]:
    said: list[str] = []
    given: dict[str, Any] = {
        "text_field": "prompt",
        "r": 3,
        "lora_alpha": 5,
        "dtype": "float32",
        "max_steps": 4,
        "learning_rate": 5e-3,
        "per_device_train_batch_size": 4,
        "max_new_tokens": 2,
        "compare_prompt": "I act as ",
        "probe": False,
        "proof": False,
        "use_cpu": True,
    }
    run = lorita.train(
        model=str(base), data=str(rows), output_dir=out,
        on_event=lambda event: said.append(event.text) if isinstance(event, Note) else None,
        **given | options,
    )  # fmt: skip
    return run, said


@pytest.mark.parametrize("scheme", SCHEMES)
def test_saved_as_plain_lora_on_the_unchanged_base(
    scheme: str, llama: Path, rows: Path, tmp_path: Path
) -> None:
    run, said = train(llama, rows, tmp_path / "run", init_lora_weights=scheme, weight_decay=0.1)
    config = json.loads((run.path / "adapter_config.json").read_text())
    assert config["init_lora_weights"] is True
    doubled = takes_out_start(scheme)
    assert config["r"] == (6 if doubled else 3)
    assert any("twice the rank" in line for line in said) == doubled
    saved = load_file(run.path / "adapter_model.safetensors")
    if doubled:  # the second half is still what the adapter started with
        ups = [t for name, t in saved.items() if "lora_B" in name]
        assert not any(torch.equal(t[:, :3], -t[:, 3:]) for t in ups)
    ids = torch.tensor([run.tuned.tokenizer("I act as a cook")["input_ids"]])
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(llama), str(run.path))
    with torch.no_grad():
        trained = run.tuned.model(input_ids=ids).logits
        assert torch.equal(plain.eval()(input_ids=ids).logits, trained)
        with plain.disable_adapter():
            assert not torch.allclose(plain(input_ids=ids).logits, trained, atol=1e-4)


def batches() -> Any:
    tokenizer = tiny.make_tokenizer()
    for start in range(0, 32, 4):
        ids = [tokenizer(text)["input_ids"] for text in ROWS[start : start + 4]]
        least = min(map(len, ids))
        ids_BL = torch.tensor([row[:least] for row in ids])
        yield {
            "input_ids": ids_BL, "attention_mask": torch.ones_like(ids_BL), "labels": ids_BL,
        }  # fmt: skip


@pytest.mark.parametrize("rslora", [False, True])
def test_loftq_starts_as_what_rounding_took(llama: Path, rslora: bool) -> None:
    """B·A, scaled, is PEFT's decomposition of what is missing; logits come closer to the base's."""
    exact = AutoModelForCausalLM.from_pretrained(llama)
    rounded = AutoModelForCausalLM.from_pretrained(llama).requires_grad_(False)
    quantise(rounded, "q4")
    ids = torch.tensor([[5, 9, 2, 77, 3]])
    with torch.no_grad():
        wanted, before = exact(input_ids=ids).logits, rounded(input_ids=ids).logits
    options = {"r": 12, "lora_alpha": 6, "use_rslora": rslora, "init_lora_weights": "loftq"}
    config, _ = plan_adapter(rounded, attached_options(options))
    model = attach(rounded, config, seed=0)
    start_adapter(model, "loftq", None, lambda: exact)
    layer: Any = model.get_base_model().model.layers[1].mlp.down_proj
    lost = exact.model.layers[1].mlp.down_proj.weight - weight_of(layer.base_layer).float()
    found = _low_rank_decomposition(lost.detach(), reduced_rank=12)
    torch.testing.assert_close(
        layer.get_delta_weight("default"), found["L"] @ found["R"], rtol=1e-3, atol=1e-5
    )
    with torch.no_grad():
        after = model(input_ids=ids).logits
    assert (after - wanted).norm() < 0.8 * (before - wanted).norm()


def test_a_run_from_loftq_answers_on_the_same_weights(
    llama: Path, rows: Path, tmp_path: Path
) -> None:
    run, said = train(llama, rows, tmp_path / "run", init_lora_weights="loftq", base_precision="q4")
    other, _ = train(llama, rows, tmp_path / "other", base_precision="q4")
    assert run.losses[0] != other.losses[0]
    assert any("belongs to this base at this --base-precision" in line for line in said)
    config = json.loads((run.path / "adapter_config.json").read_text())
    assert config["init_lora_weights"] is True and config["r"] == 3
    assert json.loads((run.path / "lorita.json").read_text())["base"]["precision"] == "q4"
    again = lorita.load(run.path, dtype="float32")
    ids = torch.tensor([run.tuned.tokenizer("I act as a cook")["input_ids"]])
    with torch.no_grad():
        trained = run.tuned.model(input_ids=ids).logits
        torch.testing.assert_close(again.model(input_ids=ids).logits, trained)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("rslora", [False, True])
def test_the_start_is_that_of_peft(family: str, rslora: bool) -> None:
    """PiSSA: B and A are PEFT's, and so is the first step's gradient; the output is the base's."""
    options = {
        "r": 4, "lora_alpha": 6, "target_modules": tiny.QKV[family], "use_rslora": rslora,
        "alpha_pattern": {"v_proj": 3}, "rank_pattern": {"v_proj": 2},
    }  # fmt: skip
    if family == "gpt2":
        options |= {"alpha_pattern": None, "rank_pattern": None}
    given = {k: v for k, v in options.items() if v is not None}
    peft = get_peft_model(
        tiny.make_model(family),
        LoraConfig(task_type="CAUSAL_LM", init_lora_weights="pissa", **given),
    )
    base = tiny.make_model(family)
    config, _ = plan_adapter(base, attached_options({**options, "init_lora_weights": "pissa"}))
    ours = attach(base, config, seed=0)
    ids = torch.tensor([[5, 9, 2, 77, 3]])
    start_adapter(ours, "pissa", None)
    with torch.no_grad():
        own = tiny.make_model(family)(input_ids=ids).logits
        torch.testing.assert_close(ours(input_ids=ids).logits, own, rtol=1e-4, atol=1e-5)
    for model in (peft, ours):
        model(input_ids=ids, labels=ids).loss.backward()
    theirs = dict(peft.named_parameters())
    for name, mine in ours.named_parameters():
        if "lora_A" in name:
            half, expected = len(mine) // 2, theirs[name]
            torch.testing.assert_close(mine[:half], expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(mine.grad[:half], expected.grad, rtol=1e-3, atol=1e-5)  # type: ignore[index]
            assert not mine.grad[half:].any()  # type: ignore[index]
    untouched = take_off(ours, {})
    for name, weight in untouched.named_parameters():
        assert torch.equal(weight, tiny.make_model(family).get_parameter(name))


@pytest.mark.parametrize("scheme", ["lora_ga", "corda", "eva"])
def test_rows_decide_the_start(scheme: str) -> None:
    found = []
    for few in (True, True, False):
        model = tiny.make_model("llama")
        config, _ = plan_adapter(model, attached_options({"r": 2, "init_lora_weights": scheme}))
        ours = attach(model, config, seed=0)
        start_adapter(ours, scheme, lambda n=2 if few else 8: list(batches())[:n])  # type: ignore[misc]
        found.append({n: p for n, p in ours.named_parameters() if "lora_A" in n})
        assert not any(hasattr(m, "eigens") for m in model.modules())
    assert all(torch.equal(a, found[1][name]) for name, a in found[0].items())
    few, many = found[0], found[2]
    assert few.keys() != many.keys() or not all(map(torch.equal, few.values(), many.values()))


@pytest.mark.parametrize("scheme", ["pissa_niter_2", "eva"])
def test_a_stopped_run_goes_on_exactly(
    scheme: str, llama: Path, rows: Path, tmp_path: Path
) -> None:
    options = {"init_lora_weights": scheme, "loraplus_lr_ratio": 4.0}
    whole, _ = train(llama, rows, tmp_path / "a", save_steps=2, **options)
    resumed, _ = train(
        llama, rows, tmp_path / "b",
        resume_from_checkpoint=str(tmp_path / "a/checkpoint-2"), **options,
    )  # fmt: skip
    file = "adapter_model.safetensors"
    assert (whole.path / file).read_bytes() == (resumed.path / file).read_bytes()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--init-lora-weights", "loftq"], "nothing is rounded"),
        (["--init-lora-weights", "loftq", "--base-precision", "native"], "is not known"),
        (["--init-lora-weights", "loftq", "--base-precision", "int8"], "used on exact weights"),
        (["--init-lora-weights", "pisa"], "should be true, false, pissa_niter_N, gaussian"),
        (["--init-lora-weights", "pissa", "--r", "99"], "r 99 is more than"),
        (["--init-lora-weights", "olora", "--target-modules", "embed_tokens"], "no plain linear"),
        (["--init-lora-weights", "eva", "--max-train-samples", "3"], "too few to start from"),
        (["--loraplus-lr-ratio", "0"], "loraplus_lr_ratio"),
    ],
)
def test_refused(
    flags: list[str],
    said: str,
    llama: Path,
    rows: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    message = refused(
        capsys, "train", "--model", llama, "--data", rows, "--text-field", "prompt", "--use-cpu",
        "--output-dir", tmp_path / "run", *flags,
    )  # fmt: skip
    assert said in message, message
    assert not (tmp_path / "run").exists()
