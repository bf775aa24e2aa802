"""The merged model equals base and adapter, for every kind of adapter and every format."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from lorita import load
from lorita.cli import run as lorita
from lorita.errors import CheckFailed
from lorita.export.merged.combine import Part
from lorita.export.merged.merge import LIMITS, merge, write_folder
from lorita.models.adapter import save_adapter
from tests import tiny
from tests.command import python, refused
from tests.export import models

IDS = torch.tensor([[5, 30, 100, 200, 7, 9]])


def saved(folder: Path, base: Path, family: str = "llama", **options: Any) -> Path:
    """A folder with an adapter for a saved base, in PEFT's format."""
    model = AutoModelForCausalLM.from_pretrained(base)
    model.name_or_path = str(base)
    folder.mkdir(parents=True, exist_ok=True)
    save_adapter(models.with_adapter(model, family, **options), folder)
    return folder


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bias all": {"bias": "all"},
    "bias lora_only": {"bias": "lora_only"},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 32}},
    "embeddings": {"target_modules": ["embed_tokens", "q_proj"]},
    "whole head": {"modules_to_save": ["lm_head"], "target_modules": ["q_proj"]},
    "whole layer": {"modules_to_save": ["layers.0.mlp"], "target_modules": ["q_proj"]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_merged_is_base_and_adapter(kind: str, llama: Path, tmp_path: Path) -> None:
    run = saved(tmp_path / "run", llama, **KINDS[kind])
    made = merge(run, tmp_path / "merged")
    assert made.agreement.largest_difference < 1e-4
    assert made.agreement.equal == made.agreement.tokens > 0
    ours = logits(AutoModelForCausalLM.from_pretrained(made.path))
    theirs = logits(load(run, dtype="float32").model)
    assert float((ours - theirs).abs().max()) < 1e-4
    base = logits(AutoModelForCausalLM.from_pretrained(llama))
    assert float((ours - base).abs().max()) > 1e-2


@pytest.mark.parametrize("family", ["gpt2", "bloom", "gemma2"])
def test_other_families(family: str, tmp_path: Path) -> None:
    base = models.save_base(tmp_path / "base", family)
    run = saved(tmp_path / "run", base, family)
    assert merge(run, tmp_path / "merged").agreement.largest_difference < 1e-4


def test_the_folder_is_what_peft_makes(llama: Path, tmp_path: Path) -> None:
    """Tensor for tensor; shards and their index are such that transformers reads them."""
    run = saved(tmp_path / "run", llama)
    merge(run, tmp_path / "merged", max_shard_size=20_000)
    index = json.loads((tmp_path / "merged/model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").state_dict()
    theirs = load(run, dtype="float32").model.merge_and_unload().state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in ours)
    assert (tmp_path / "merged/tokenizer.json").is_file()


def test_several_adapters_are_a_weighted_sum(llama: Path, tmp_path: Path) -> None:
    first = saved(tmp_path / "first", llama)
    second = saved(tmp_path / "second", llama, r=2, use_rslora=True)
    made = merge(first, tmp_path / "merged", weight=0.5, others=[Part(str(second), 0.25)])
    ours = AutoModelForCausalLM.from_pretrained(made.path).state_dict()
    base = AutoModelForCausalLM.from_pretrained(llama).state_dict()
    one = load(first, dtype="float32").model.merge_and_unload().state_dict()
    two = load(second, dtype="float32").model.merge_and_unload().state_dict()
    for name, tensor in base.items():
        wanted = tensor + 0.5 * (one[name] - tensor) + 0.25 * (two[name] - tensor)
        assert torch.allclose(ours[name], wanted, atol=1e-5), name


def test_written_in_another_dtype(llama: Path, tmp_path: Path) -> None:
    run = saved(tmp_path / "run", llama)
    merge(run, tmp_path / "merged", dtype="bfloat16", allow_loss=True)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert model.dtype == torch.bfloat16
    exact = load(run, dtype="float32").model.merge_and_unload().state_dict()
    assert all(t.equal(exact[n].bfloat16()) for n, t in model.state_dict().items())


def test_a_loss_is_refused_and_nothing_is_written(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = saved(tmp_path / "run", llama)
    for name in ("LIMITS", "SHARES"):
        none = {"float32": 1e-12, "bfloat16": 1e-12}
        monkeypatch.setattr(f"lorita.export.merged.merge.{name}", none)
    with pytest.raises(CheckFailed, match="--allow-loss"):
        merge(run, tmp_path / "merged", dtype="bfloat16")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    merge(run, tmp_path / "merged", dtype="bfloat16", allow_loss=True)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("strength", [5.0])
def test_rounding_is_allowed_for_and_a_wrong_merge_is_found(
    dtype: str, strength: float, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a strong adapter: rounding differs by a part of it, and so does a mistake."""
    run = saved(tmp_path / "run", llama, lora_alpha=4 * strength)
    made = merge(run, tmp_path / "merged", dtype=dtype)
    assert made.agreement.largest_difference > 0.0

    def wrong(tuned: Any, *arguments: Any, **options: Any) -> int:
        layer = tuned.model.get_base_model().model.layers[1].mlp.down_proj
        layer.scaling["default"] *= 0.5
        return write_folder(tuned, *arguments, **options)

    monkeypatch.setattr("lorita.export.merged.merge.LIMITS", dict.fromkeys(LIMITS, 0.0))
    monkeypatch.setattr("lorita.export.merged.merge.write_folder", wrong)
    with pytest.raises(CheckFailed, match="the adapter changes logits by up to"):
        merge(run, tmp_path / "wrong", dtype=dtype)
    assert not (tmp_path / "wrong").exists()


# --- mistakes -------------------------------------------------------------------------------


def test_existing_files_are_kept(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = saved(tmp_path / "run", llama)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("precious")
    assert "--overwrite" in refused(capsys, "merge", run, tmp_path / "out")
    assert "mine" in refused(capsys, "merge", run, tmp_path / "out", "--overwrite")
    assert (tmp_path / "out/mine").read_text() == "precious"
    (tmp_path / "out/mine").unlink()
    assert lorita(["merge", str(run), str(tmp_path / "out"), "--overwrite"]) == 0
    assert (tmp_path / "out/model.safetensors").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]


def test_mistakes(llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = saved(tmp_path / "run", llama)
    out = tmp_path / "out"
    cases: list[tuple[tuple[object, ...], str]] = [
        ((run, out, "--dtype", "int8"), 'Choose from: "auto", "float32"'),
        ((run, out, "--adapter", f"{run}:much"), "is not a number"),
        ((run, out, "--adapter", run, "--combination-type", "mix"), "no such method"),
        ((tmp_path / "none", out), "no such run folder"),
        ((llama, out), "holds a whole model, not an adapter"),
        ((run, tmp_path / "run/adapter_config.json/out"), "is a file"),
    ]
    for arguments, said in cases:
        assert said in refused(capsys, "merge", *arguments)
    assert not out.exists()


def test_an_adapter_of_another_base(
    llama: Path, tmp_path: Path, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    arguments = ["--model", llama, "--data", prompts, "--text-field", "prompt", "--max-steps", 1]
    command = ["train", *arguments, "--output-dir", run, "--target-modules", "q_proj,v_proj"]
    assert lorita([str(part) for part in command]) == 0
    other = tmp_path / "other"
    tiny.make_model("llama", seed=1).save_pretrained(other)
    tiny.make_tokenizer().save_pretrained(other)
    capsys.readouterr()
    said = refused(capsys, "merge", run, tmp_path / "out", "--base", other)
    assert "trained on another base" in said and "tensors are different" in said
    bloom = tiny.save_model(tmp_path / "bloom", "bloom")
    said = refused(capsys, "merge", run, tmp_path / "out", "--base", bloom)
    assert "model_type is bloom, expected llama" in said
    assert lorita(["merge", str(run), str(tmp_path / "out")]) == 0


def test_missing_and_damaged_files(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = saved(tmp_path / "run", llama)
    weights = (run / "adapter_model.safetensors").read_bytes()
    (run / "adapter_model.safetensors").unlink()
    assert "no adapter_model.safetensors" in refused(capsys, "merge", run, tmp_path / "out")
    (run / "adapter_model.safetensors").write_bytes(weights[:1000])
    assert "adapter_model.safetensors" in refused(capsys, "merge", run, tmp_path / "out")
    (run / "adapter_model.safetensors").write_bytes(weights)
    (run / "adapter_config.json").unlink()
    assert "adapter_config.json is missing" in refused(capsys, "merge", run, tmp_path / "out")
    (run / "adapter_config.json").write_text("{")
    assert "adapter_config.json" in refused(capsys, "merge", run, tmp_path / "out")


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of this kind")
def test_a_full_disk_leaves_nothing(llama: Path, tmp_path: Path) -> None:
    """A limit on the size of files acts like a full disk."""
    run = saved(tmp_path / "run", llama)
    code = (
        "import resource, signal, sys; from lorita.cli import run; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); "
        f"sys.exit(run(['merge', {str(run)!r}, {str(tmp_path / 'out')!r}]))"
    )
    done = python("-c", code)
    assert done.code == 2, done.err
    assert "cannot be written" in done.err and "Traceback" not in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
