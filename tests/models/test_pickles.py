"""Pickles of others: tensors are read from a model's, nothing else is, and nothing is ever run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lorita import load
from lorita.errors import LoritaWarning, ModelError
from lorita.models.base import Base, find_base
from lorita.models.base_weights import load_model
from tests import tiny
from tests.command import refused
from tests.export.merged.test_merge import saved


class Evil:
    """Writes a file when it is read."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    """A model whose weights are in ``pytorch_model.bin``."""
    folder = tiny.save_model(tmp_path / "pickled")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    return folder


def test_the_canary_sings(canary: Path) -> None:
    pickle.loads(pickle.dumps(Evil(canary)))
    assert canary.exists()


def test_tensors_are_read_and_that_is_said(pickled: Path) -> None:
    with pytest.warns(LoritaWarning, match=r"pytorch_model.bin, a pickle; only tensors are read"):
        model = load_model(find_base(str(pickled)), torch.float32)
    expected = dict(tiny.make_model("llama").named_parameters())
    assert all(parameter.equal(expected[name]) for name, parameter in model.named_parameters())


def test_nothing_is_said_of_a_pickle_that_is_not_read(
    llama: Path, tmp_path: Path, canary: Path, recwarn: pytest.WarningsRecorder
) -> None:
    folder = shutil.copytree(llama, tmp_path / "both")
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "vocab.pkl"):
        (folder / name).write_bytes(pickle.dumps(Evil(canary)))
    load_model(find_base(str(folder)), torch.float32)
    assert not canary.exists()
    assert not [w for w in recwarn if issubclass(w.category, LoritaWarning)]


@pytest.mark.parametrize("form", ["torch", "old torch", "pickle", "beside tensors", "shards"])
def test_code_in_a_base(pickled: Path, canary: Path, form: str) -> None:
    file = pickled / "pytorch_model.bin"
    weights: dict[str, Any] = torch.load(file, weights_only=True)
    if form == "pickle":
        file.write_bytes(pickle.dumps(Evil(canary)))
    elif form == "beside tensors":
        torch.save({**weights, "more": Evil(canary)}, file)
    elif form == "shards":
        file.unlink()
        torch.save(Evil(canary), pickled / "pytorch_model-00001-of-00001.bin")
        names = dict.fromkeys(weights, "pytorch_model-00001-of-00001.bin")
        index = {"metadata": {"total_size": 1}, "weight_map": names}
        (pickled / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    else:
        torch.save(Evil(canary), file, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(ModelError, match="could run code; they are not loaded"):
        load_model(Base(str(pickled), str(pickled)), torch.float32)
    assert not canary.exists()


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize(
    "name", ["../../x", "/etc/passwd", "..\\..\\x", "C:\\x", "a/../../x", "", None, ["x"]]
)
def test_an_index_that_leads_out_of_the_folder(
    llama: Path, tmp_path: Path, kind: str, name: Any
) -> None:
    folder = shutil.copytree(llama, tmp_path / "a" / "model")
    shutil.copy(folder / "model.safetensors", tmp_path / "x")
    (folder / "model.safetensors").unlink()
    stem = "model" if kind == "safetensors" else "pytorch_model"
    index = {"metadata": {}, "weight_map": {"model.norm.weight": name}}
    (folder / f"{stem}.{kind}.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"outside the model's folder|should be a valid string"):
        find_base(str(folder))


def test_pickles_beside_an_adapter(llama: Path, tmp_path: Path, canary: Path) -> None:
    run = saved(tmp_path / "run", llama)
    names = ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "tokenizer.pkl",
             "adapter_model.bin", "adapter_model.pt")  # fmt: skip
    for name in names:
        (run / name).write_bytes(pickle.dumps(Evil(canary)))
    load(run)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.pt"])
def test_an_adapter_that_is_a_pickle(
    llama: Path, tmp_path: Path, canary: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    run = saved(tmp_path / "run", llama)
    (run / "adapter_model.safetensors").unlink()
    torch.save(Evil(canary), run / name)
    refused(capsys, "generate", run, "hi")
    assert not canary.exists()


@pytest.mark.parametrize(
    "name", ["rows.pkl", "rows.pickle", "rows.pt", "rows.pth", "rows.npy", "rows.npz",
             "rows.joblib", "rows.bin", "rows.csv", "rows.jsonl", "rows.parquet", "rows.arrow"]
)  # fmt: skip
def test_pickles_as_data(
    llama: Path, tmp_path: Path, canary: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    torch.save([Evil(canary)], tmp_path / name)
    refused(capsys, "preview", tmp_path / name, "--model", llama)
    (tmp_path / name).write_bytes(pickle.dumps([Evil(canary)], protocol=0))
    refused(capsys, "preview", tmp_path / name, "--model", llama, "--text-field", "text")
    assert not canary.exists()
