"""The same command again, or another look at a run: nothing is lost and nothing is claimed."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

import lorita
from lorita.cli import run as command
from lorita.errors import Interrupted, OutputError
from lorita.storage.run_folder import list_checkpoints
from lorita.training.events import Event, StepDone, follow
from lorita.workflows import demo
from lorita.workflows.train import train_events
from tests import tiny
from tests.command import refused
from tests.runs.test_run import train
from tests.workflows.test_sweep import run_sweep

SHORT: dict[str, Any] = {"max_steps": 2, "max_new_tokens": 2, "compare_prompt": "I act"}


def stop_after(step: int) -> Any:
    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == step:
            signal.raise_signal(signal.SIGINT)

    return stop


def test_new_prompts_say_nothing_about_rows(
    llama: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows were held out, and are not measured again."""
    run = tmp_path / "run"
    for proof in (True, False):
        train(run, llama, prompts, **SHORT, proof=proof, overwrite=True)
        assert command(["compare", str(run), "--prompt", "tea", "--max-new-tokens", "2"]) == 0
        said = capsys.readouterr().out
        assert "o rows were held out" not in said
        assert f"What was measured at the end of the run: lorita compare {run}" in said
        assert command(["compare", str(run)]) == 0
        assert "held-out rows" in capsys.readouterr().out
    train(run, llama, prompts, **SHORT, proof=False, overwrite=True, eval_fraction=0)
    assert command(["compare", str(run)]) == 0
    assert "No rows were held out" in capsys.readouterr().out


def test_an_interrupted_run_is_continued_first(llama: Path, prompts: Path, tmp_path: Path) -> None:
    run = tmp_path / "my run"
    with pytest.raises(Interrupted) as stopped:
        train(run, llama, prompts, **SHORT, on_event=stop_after(1))
    resume = f"lorita train '{run}' --resume"
    assert resume in str(stopped.value)
    with pytest.raises(OutputError) as caught:
        train(run, llama, prompts, **SHORT)
    said = str(caught.value)
    assert "did not finish (checkpoint-1)" in said
    assert said.index(resume) < said.index("--overwrite")
    assert list_checkpoints(run)
    # Also where something else lies beside it, which --overwrite would not remove.
    (run / "notes.txt").write_text("mine")
    with pytest.raises(OutputError) as caught:
        train(run, llama, prompts, **SHORT)
    assert resume in str(caught.value) and "notes.txt" in str(caught.value)
    (run / "notes.txt").unlink()
    train(run, llama, prompts, **SHORT, overwrite=True)
    with pytest.raises(OutputError) as caught:
        train(run, llama, prompts, **SHORT)
    assert "--resume" not in str(caught.value) and "--overwrite" in str(caught.value)


def test_a_run_without_a_checkpoint_is_not_said_to_have_one(
    llama: Path, prompts: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(lorita.errors.RunFailed):
        options = SHORT | {"max_steps": 9}
        train(run, llama, prompts, **options, lora_alpha=1e30, learning_rate=1e3, max_grad_norm=0)
    with pytest.raises(OutputError, match="did not get as far as a checkpoint") as caught:
        train(run, llama, prompts, **SHORT)
    assert "--resume" not in str(caught.value)


def test_an_interrupted_demo(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lorita.models.base.BUNDLED", {})
    settings = demo.build_settings

    def small(**options: Any) -> Any:
        return settings(**options | {"model": str(llama), "num_train_epochs": 0.2, "proof": False})

    monkeypatch.setattr(demo, "build_settings", small)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Interrupted):
        asked = demo.demo_settings("es", output_dir=Path("runs/demo"), overwrite=False)
        follow(train_events(asked), stop_after(1))
    said = refused(capsys, "demo", "--language", "es")
    assert said.index("lorita train runs/demo --resume") < said.index("--overwrite")


def test_a_sweep_with_overwrite_is_continued_without_it(
    llama: Path, prompts: Path, tmp_path: Path
) -> None:
    for options, how in (({}, "same command continues"), ({"overwrite": True}, "without --overw")):
        with pytest.raises(Interrupted, match=how):
            run_sweep(tmp_path / "sweep", llama, prompts, on_event=stop_after(2), **options)


def test_a_finished_run_is_not_resumed(
    llama: Path,
    prompts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    train(run, llama, prompts, **SHORT, overwrite=True)  # which its run.yaml remembers
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    loaded: list[Any] = []
    monkeypatch.setattr("lorita.workflows.train.load_base", lambda *given: loaded.append(given))
    monkeypatch.setattr("lorita.workflows.train.prepare", lambda *given: loaded.append(given))
    for more in ([], ["--logging-steps", "5"], ["--save-steps", "1"]):
        assert command(["train", str(run), "--resume", *more]) == 0
        said = capsys.readouterr().out
        assert "this run is finished" in said and f"lorita generate {run}" in said
    assert loaded == []
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    monkeypatch.undo()
    # Another run than the one that is there would replace it.
    changed = refused(capsys, "train", run, "--resume", "--learning-rate", "0.5", "--r", "2")
    assert "begun with learning_rate = 0.01, now it is 0.5" in changed and "r = 8" in changed
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_what_a_finished_run_no_longer_heeds(
    llama: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train(run, llama, prompts, **SHORT, proof=False)
    assert command(["train", str(run), "--resume", "--proof", "--compare-prompt", "tea"]) == 0
    said = capsys.readouterr().out
    assert "No longer of use to it: compare_prompt, proof." in said and "lorita evaluate" in said


@pytest.mark.parametrize("killed", ["before", "after"])
def test_a_run_without_checkpoints_is_not_resumed_as_another(
    killed: str, llama: Path, prompts: Path, tmp_path: Path
) -> None:
    """Neither a finished one, nor one that was killed before its first checkpoint."""
    run = tmp_path / "run"
    train(run, llama, prompts, **SHORT)
    if killed == "before":
        (run / "lorita.json").unlink()
        (run / "adapter_model.safetensors").unlink()
    with pytest.raises(OutputError, match="begun with seed = 42, now it is 1"):
        train(run, llama, prompts, **SHORT, resume=True, seed=1)
    with pytest.raises(OutputError, match="begun with data = "):
        train(run, llama, tiny.write_csv(tmp_path / "b.csv", ["a b c"] * 9), **SHORT, resume=True)
    again = train(run, llama, prompts, **SHORT, resume=True)
    assert len(again.losses) == 2
