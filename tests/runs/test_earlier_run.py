"""A run folder that an earlier lorita made can still be used, measured anew and continued.

``earlier_run`` holds the base, the rows and the run, which was stopped by nothing: it has its
record, its comparison and a checkpoint after the third of its six steps.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import lorita
from lorita.evaluation.comparison import read_comparison
from lorita.storage.run_record import read_record
from tests.command import lorita as command
from tests.hub_server import COMMIT, HubServer, hub_server

HERE = Path(__file__).parent / "earlier_run"
FIGURES = json.loads((HERE / "run/lorita.json").read_text(encoding="utf-8"))["figures"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(HERE / "run", tmp_path / "run"))


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """The base is on the hub, so that the run names it by the same name everywhere."""
    with hub_server() as server:
        server.add("someone/tiny-llama", HERE / "base")
        yield server


def environment(hub: HubServer, folder: Path) -> dict[str, str]:
    cache = {"HF_HOME": str(folder / "hub"), "HF_DATASETS_CACHE": str(folder / "datasets")}
    return cache | {
        "HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
    }  # fmt: skip


def test_its_record_and_comparison_are_read(run: Path) -> None:
    record = read_record(run)
    assert record is not None
    assert record.base.revision == COMMIT
    assert record.data.train_rows == 22
    assert record.figures.held_out_loss_tuned == FIGURES["held_out_loss_tuned"]
    assert all(check.passed for check in record.checks)
    proof = read_comparison(run).proof
    assert proof is not None and proof.learned.held_out is not None


def test_it_answers(run: Path) -> None:
    tuned = lorita.load(run, base=str(HERE / "base"), dtype="float32")
    assert tuned.generate("I act as", max_new_tokens=8)


def test_it_is_measured_anew(hub: HubServer, run: Path, tmp_path: Path) -> None:
    """Its rows are found unchanged, so the held-out loss is that of its record."""
    shutil.copy(HERE / "prompts.csv", tmp_path)
    done = command(
        "evaluate", run, "--dtype", "float32", cwd=tmp_path, **environment(hub, tmp_path)
    )
    assert done.code == 0, done.err
    assert f"to {FIGURES['held_out_loss_tuned']:.3f} nats" in done.out


def test_it_is_continued(hub: HubServer, run: Path, tmp_path: Path) -> None:
    """From its checkpoint to the end, with a loss near that of its own last step."""
    shutil.copy(HERE / "prompts.csv", tmp_path)
    (run / "adapter_model.safetensors").unlink()
    done = command("train", "run", "--resume", cwd=tmp_path, **environment(hub, tmp_path))
    assert done.code == 0, done.err
    assert "Continuing after step 3" in done.err
    record = json.loads((run / "lorita.json").read_text(encoding="utf-8"))
    loss = record["figures"]["final_training_loss"]
    # Another processor rounds differently; a lost or repeated step shows in the first digits.
    assert loss == pytest.approx(FIGURES["final_training_loss"], abs=2e-3)
    assert (run / "adapter_model.safetensors").is_file()
