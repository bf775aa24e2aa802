"""A run gets a folder of its own: what the user has there is never replaced, removed or mixed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lorita.errors import OutputError, RunFailed
from lorita.storage.locks import LOCK_FILE, hold
from lorita.training.checkpoint import list_checkpoints
from lorita.training.events import Event, StepDone
from tests.command import write
from tests.runs.test_earlier_run import HERE
from tests.runs.test_run import train

SHORT: dict[str, Any] = {"max_steps": 2, "save_steps": 1, "proof": False, "max_new_tokens": 2}


def content(folder: Path) -> dict[str, bytes]:
    found = folder.rglob("*")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if path.is_file()}


def refusal(run: Path, model: Path, data: Path, **options: Any) -> str:
    """The message of a run that must be refused, which leaves everything as it was."""
    before = content(run)
    with pytest.raises(OutputError) as caught:
        train(run, model, data, **SHORT | options)
    assert content(run) == before
    return str(caught.value)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "name", ["README.md", "tokenizer.json", "checkpoint-3/weights", ".hidden", "lorita.json"]
)
def test_a_folder_of_the_users(
    llama: Path, prompts: Path, tmp_path: Path, name: str, overwrite: bool
) -> None:
    run = tmp_path / "run"
    (run / name).parent.mkdir(parents=True)
    (run / name).write_text("{}")
    assert name.split("/")[0] in refusal(run, llama, prompts, overwrite=overwrite)


def test_a_run_with_something_of_the_users_in_it(
    llama: Path, prompts: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train(run, llama, prompts, **SHORT)
    for name in ("notes.txt", ".DS_Store", "checkpoint-2/mine", "adapter.gguf"):
        file = write(run / name, "mine")
        assert name in refusal(run, llama, prompts, overwrite=True)
        file.unlink()
    write(run / "notes.txt", "mine")
    train(run, llama, prompts, **SHORT, resume=True)
    assert (run / "notes.txt").read_text() == "mine"
    (run / "notes.txt").unlink()
    train(run, llama, prompts, **SHORT | {"save_steps": None}, overwrite=True)
    assert not list_checkpoints(run)


def test_an_old_checkpoint_with_something_of_the_users_stays(
    llama: Path, prompts: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"

    def add(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 2:
            write(run / "checkpoint-1/mine", "mine")

    options = SHORT | {"max_steps": 4, "save_total_limit": 1}
    train(run, llama, prompts, **options, on_event=add)
    assert [path.name for path in list_checkpoints(run)] == ["checkpoint-1", "checkpoint-4"]
    assert (run / "checkpoint-1/mine").read_text() == "mine"


def test_base_and_data_are_no_outputs(llama: Path, prompts: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(llama, tmp_path / "models/base"))
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(prompts, data / "rows.csv")
    (tmp_path / "link").symlink_to(base)
    for out in (base, base.parent, base / "run", tmp_path / "link", tmp_path / "link/run"):
        assert "the base model" in refusal(out, base, prompts, overwrite=True)
    for out in (data, tmp_path):
        assert "the data" in refusal(out, llama, data, overwrite=True)


def test_a_run_inside_the_folder_of_the_data(llama: Path, prompts: Path, tmp_path: Path) -> None:
    """Its files are not read as rows the next time, by the folder's name or by a pattern."""
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(prompts, data / "rows.csv")
    train(data / "runs/a", llama, data, **SHORT)
    (data / "sub").mkdir()
    write(data / "sub/more.json", '[{"act": "cook", "prompt": "I act as a cook."}]')
    train(data / "runs/b", llama, data / "**/*.*", **SHORT)
    record = json.loads((data / "runs/b/lorita.json").read_text())
    assert record["data"]["train_rows"] + record["data"]["held_out_rows"] == 25
    shutil.rmtree(data / "sub")
    train(data / "runs/c", llama, data, **SHORT)
    first, third = (json.loads((data / f"runs/{n}/lorita.json").read_text()) for n in "ac")
    assert first["data"] == third["data"]


def test_a_second_run_in_the_same_folder(llama: Path, prompts: Path, tmp_path: Path) -> None:
    run, said = tmp_path / "run", []

    def start_another(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 1:
            for options in ({"overwrite": True}, {"resume": True}, {}):
                with pytest.raises(OutputError) as caught:
                    train(run, llama, prompts, **SHORT | {"seed": 7}, **options)
                said.append(str(caught.value))

    train(run, llama, prompts, **SHORT, on_event=start_another)
    assert len(said) == 3 and all("is being written by process" in text for text in said)
    assert not (run / LOCK_FILE).exists()
    assert json.loads((run / "lorita.json").read_text())["seed"] == 42


def test_taken_after_it_was_looked_at(
    llama: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs start together: the one that comes second to the folder is refused."""
    run = tmp_path / "run"
    monkeypatch.setattr("lorita.runs.prepare.check_folder", lambda *given: None)
    run.mkdir()
    with hold(run / LOCK_FILE, run, advice="wait"), pytest.raises(OutputError, match="process"):
        train(run, llama, prompts, **SHORT)
    write(run / "mine", "mine")
    assert "mine" in refusal(run, llama, prompts, overwrite=True)
    assert [path.name for path in run.iterdir()] == ["mine"]


def test_a_refused_resume_leaves_nothing(llama: Path, prompts: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    train(whole, llama, prompts, **SHORT)
    run = tmp_path / "new/run"
    (tmp_path / "none").mkdir()
    for source in (tmp_path / "none", "/etc", tmp_path / "missing"):
        refusal(run, llama, prompts, resume_from_checkpoint=str(source))
    changed = {"resume_from_checkpoint": str(whole / "checkpoint-1"), "learning_rate": 0.5}
    refusal(run, llama, prompts, **changed)
    assert not run.parent.exists()
    # Nor does it take away the run that it was to replace.
    assert "learning_rate" in refusal(whole, llama, prompts, **changed, overwrite=True)


def test_links_are_not_followed(llama: Path, prompts: Path, tmp_path: Path) -> None:
    run, victim = tmp_path / "run", write(tmp_path / "victim", "mine")
    train(run, llama, prompts, **SHORT)
    for name in ("adapter_model.safetensors", "tokenizer.json", "README.md", "log.jsonl"):
        (run / name).unlink()
        (run / name).symlink_to(victim)
        if name == "log.jsonl":
            assert "symbolic link" in refusal(run, llama, prompts, resume=True)
        else:
            train(run, llama, prompts, **SHORT, resume=True)
            assert not (run / name).is_symlink()
    assert victim.read_text() == "mine"


def test_a_failed_run_keeps_its_folder(llama: Path, prompts: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(RunFailed):
        train(run, llama, prompts, **SHORT, lora_alpha=1e30, learning_rate=1e3, max_grad_norm=0)
    assert (run / "run.yaml").exists() and not (run / LOCK_FILE).exists()


def test_a_run_of_an_earlier_version_can_be_replaced(
    llama: Path, prompts: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(HERE / "run", tmp_path / "run"))
    file = write(run / "notes.txt", "mine")
    assert "notes.txt" in refusal(run, llama, prompts, overwrite=True)
    file.unlink()
    train(run, llama, prompts, **SHORT | {"save_steps": None}, overwrite=True)
    assert not (run / "checkpoint-3").exists()
