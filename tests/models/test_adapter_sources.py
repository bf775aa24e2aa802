"""Adapters of other programs, in the folders and formats that those programs write."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorita import load
from lorita.errors import AdapterError
from lorita.models.adapter_sources import find_adapter, is_adapter
from tests.command import refused
from tests.export.merged.test_merge import IDS, logits, saved


def test_which_adapter_of_a_folder_is_chosen(llama: Path, tmp_path: Path) -> None:
    run = saved(tmp_path / "run", llama)
    assert find_adapter(run) == run
    trainer = tmp_path / "outputs"  # TRL, Axolotl, LLaMA-Factory: only checkpoints so far
    for step in (20, 100, 3):
        shutil.copytree(run, trainer / f"checkpoint-{step}")
    assert find_adapter(trainer).name == "checkpoint-100"
    shutil.copytree(run, trainer / "final")
    assert find_adapter(trainer).name == "final"
    shutil.copytree(run, trainer / "other")
    with pytest.raises(AdapterError, match="holds 2 adapters"):
        find_adapter(trainer)
    for file in run.iterdir():
        shutil.copy(file, trainer)
    assert find_adapter(trainer) == trainer
    assert is_adapter(trainer) and not is_adapter(llama) and not is_adapter("smollm2-135m")


def test_a_folder_as_unsloth_writes_it(llama: Path, tmp_path: Path) -> None:
    """A regex as targets, keys unknown to this version of PEFT, a base quantised for GPUs."""
    run = saved(tmp_path / "run", llama, target_modules=["q_proj", "v_proj"])
    config = json.loads((run / "adapter_config.json").read_text())
    config["target_modules"] = r"(?:.*?layers.*?self_attn.*?(?:q_proj|v_proj))"
    config["base_model_name_or_path"] = "unsloth/tiny-unsloth-bnb-4bit"
    config["auto_mapping"] = {"base_model_class": "Llama", "unsloth_fixed": True}
    (run / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(AdapterError, match="--base unsloth/tiny"):
        load(run)
    assert load(run, base=str(llama), dtype="float32").model is not None


def test_mlx_adapters(llama: Path, tmp_path: Path) -> None:
    """x @ lora_a @ lora_b * scale: the transposed matrices, under the modules' own names."""
    run = saved(tmp_path / "run", llama, target_modules=["q_proj", "v_proj"], lora_alpha=12)
    mlx = tmp_path / "adapters"
    mlx.mkdir()
    tensors = {}
    for name, tensor in load_file(run / "adapter_model.safetensors").items():
        short = name.removeprefix("base_model.model.").removesuffix(".weight")
        module, _, letter = short.rpartition(".lora_")
        tensors[f"{module}.lora_{letter.lower()}"] = tensor.T.contiguous()
    save_file(tensors, mlx / "adapters.safetensors")
    options = {"rank": 4, "scale": 3.0, "dropout": 0.0, "keys": ["self_attn.q_proj"]}
    values = {"fine_tune_type": "lora", "model": str(llama), "lora_parameters": options}
    (mlx / "adapter_config.json").write_text(json.dumps({**values, "num_layers": 2}))
    ours = logits(load(mlx, dtype="float32").model)
    assert torch.allclose(ours, logits(load(run, dtype="float32").model), atol=1e-5)
    (mlx / "adapter_config.json").write_text(json.dumps({**values, "fine_tune_type": "full"}))
    (mlx / "adapters.safetensors").touch()
    with pytest.raises(AdapterError, match=r"mlx_lm\.fuse"):
        load(mlx)
    assert IDS.ndim == 2


def test_mistakes(llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no adapter" in refused(capsys, "merge", empty, out)
    run = saved(tmp_path / "run", llama)
    (run / "adapter_model.safetensors").rename(run / "adapter_model.bin")
    assert "is a pickle" in refused(capsys, "merge", run, out)
    assert "HF_HUB_OFFLINE" in refused(capsys, "merge", "someone/adapter", out)
    (tmp_path / "a.gguf").write_bytes(b"GGUF\3\0\0\0")
    assert "truncated" in refused(capsys, "merge", tmp_path / "a.gguf", out)
    (tmp_path / "a.txt").write_text("x")
    assert "not a .gguf adapter" in refused(capsys, "merge", tmp_path / "a.txt", out)
