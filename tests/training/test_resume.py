"""A resumed run equals an uninterrupted one byte for byte; damage to a checkpoint stays there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import lorita
from lorita.errors import Interrupted, OutputError
from lorita.training.checkpoint_state import read_state
from lorita.training.events import Event, Note, StepDone, TrainingStarted
from lorita.training.stop_request import StopRequest
from tests.runs.test_run import train

OPTIONS: dict[str, Any] = {"lora_dropout": 0.1, "max_steps": 9, "bias": "all", "warmup_steps": 2}


def adapter(run: Path) -> bytes:
    return (run / "adapter_model.safetensors").read_bytes()


def interrupted(run: Path, model: Path, data: Path, after: int, **options: Any) -> None:
    """Start a run and stop it after the step ``after``."""

    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == after:
            import signal

            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match="--resume"):
        train(run, model, data, **{**OPTIONS, **options}, on_event=stop)


def resume(run: Path, **options: Any) -> list[Event]:
    events: list[Event] = []
    lorita.train(
        config=run / "run.yaml",
        output_dir=run,
        on_event=events.append,
        **{"resume": True, **options},
    )
    return events


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_resumed_is_uninterrupted(llama: Path, prompts: Path, tmp_path: Path, dtype: str) -> None:
    train(tmp_path / "whole", llama, prompts, **OPTIONS | {"dtype": dtype})
    run = tmp_path / "run"
    interrupted(run, llama, prompts, after=2, dtype=dtype)

    def stop_again(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 6:
            import signal

            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        lorita.train(config=run / "run.yaml", output_dir=run, resume=True, on_event=stop_again)
    events = resume(run)
    assert [e.step for e in events if isinstance(e, StepDone)][-1] == 9
    assert adapter(run) == adapter(tmp_path / "whole")
    assert (run / "compare.json").read_text() == (tmp_path / "whole/compare.json").read_text()


def test_from_a_checkpoint_that_is_named(llama: Path, prompts: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(run, llama, prompts, **OPTIONS, save_steps=3, save_total_limit=5)
    whole = adapter(run)
    (run / "adapter_model.safetensors").unlink()
    resume(run, resume_from_checkpoint=str(run / "checkpoint-3"), resume=False)
    assert adapter(run) == whole


STATE = "trainer_state.json"


@pytest.mark.parametrize(
    ("harm", "name", "said"),
    [
        ("flip", "trainer_state.safetensors", "is damaged"),
        ("flip", "adapter_model.safetensors", "is damaged"),
        ("flip", "adapter_config.json", "is damaged"),
        ("flip", STATE, "is damaged"),
        ("cut", "trainer_state.safetensors", "is damaged"),
        ("cut", STATE, "is damaged"),
        ("remove", "trainer_state.safetensors", "trainer_state.safetensors is missing"),
        ("remove", STATE, "trainer_state.json is missing"),
        ("version", STATE, "another version of lorita (format 99; this version reads"),
        ("nothing", STATE, ""),
    ],
)
def test_a_damaged_checkpoint_gives_way(
    llama: Path, prompts: Path, tmp_path: Path, harm: str, name: str, said: str
) -> None:
    run = tmp_path / "run"
    train(run, llama, prompts, **OPTIONS, save_steps=3)
    whole = adapter(run)
    damage(run / "checkpoint-9" / name, harm)
    if harm != "nothing":
        with pytest.raises(OutputError, match="--resume"):
            resume(run, resume_from_checkpoint=str(run / "checkpoint-9"), resume=False)
    events = resume(run)
    passed_over = [e.text for e in events if isinstance(e, Note) and e.text.startswith("Skipped: ")]
    steps = [e.step for e in events if isinstance(e, StepDone)]
    assert steps[:1] == ([] if harm == "nothing" else [7])
    assert said in passed_over[0] if said else not passed_over
    assert adapter(run) == whole
    assert read_state(run / "checkpoint-9")["step"] == 9  # written again


def damage(file: Path, harm: str) -> None:
    content = bytearray(file.read_bytes())
    if harm == "flip":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif harm == "cut":
        file.write_bytes(content[:-10])
    elif harm == "remove":
        file.unlink()
    elif harm == "version":
        file.write_text(json.dumps(json.loads(content) | {"format": 99}))


def test_when_all_checkpoints_are_damaged(llama: Path, prompts: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(run, llama, prompts, **OPTIONS, save_steps=3)
    for number in (6, 9):
        damage(run / f"checkpoint-{number}" / STATE, "cut")
    with pytest.raises(OutputError, match="start again with --overwrite") as caught:
        resume(run)
    assert len(caught.value.problems) == 2


def test_a_stop_right_after_a_resume_keeps_the_checkpoint(
    llama: Path, prompts: Path, tmp_path: Path
) -> None:
    """The state has not changed, so the only checkpoint must not be rewritten."""
    run = tmp_path / "run"
    interrupted(run, llama, prompts, after=4)
    before = {file: file.stat().st_mtime_ns for file in (run / "checkpoint-4").iterdir()}

    def stop(event: Event) -> None:
        if isinstance(event, TrainingStarted):
            import signal

            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted, match="after step 4"):
        lorita.train(config=run / "run.yaml", output_dir=run, resume=True, on_event=stop)
    assert {f: f.stat().st_mtime_ns for f in (run / "checkpoint-4").iterdir()} == before


def test_the_log_has_every_step_once(llama: Path, prompts: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(run, llama, prompts, **OPTIONS, save_steps=3)
    with (run / "log.jsonl").open("a") as log:
        log.write('{"event": "StepDone", "st')  # cut off by a kill
    damage(run / "checkpoint-9" / STATE, "remove")
    resume(run)
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [e["step"] for e in log if e["event"] == "StepDone"] == list(range(1, 10))
    assert sum(e["event"] == "TrainingEnded" for e in log) == 1


def test_refused_when_something_that_matters_changed(
    llama: Path, bloom: Path, prompts: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    interrupted(run, llama, prompts, after=2)
    with pytest.raises(OutputError) as caught:
        resume(run, r=3, learning_rate=0.5, logging_steps=7)
    assert "r was 8, is now 3" in str(caught.value)
    assert "learning_rate was 0.01, is now 0.5" in str(caught.value)
    assert "logging_steps" not in str(caught.value)


def test_resume_starts_a_new_run(llama: Path, prompts: Path, tmp_path: Path) -> None:
    """The same command can be repeated until the run is done, whenever it was killed."""
    train(tmp_path / "whole", llama, prompts, **OPTIONS)
    train(tmp_path / "run", llama, prompts, **OPTIONS, resume=True)
    assert adapter(tmp_path / "run") == adapter(tmp_path / "whole")


def test_nothing_saved_yet_starts_at_the_beginning(
    llama: Path, prompts: Path, tmp_path: Path
) -> None:
    import shutil

    run = tmp_path / "run"
    train(run, llama, prompts, **OPTIONS)
    whole = adapter(run)
    for checkpoint in run.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    resume(run)
    assert adapter(run) == whole


def test_a_second_signal_interrupts_at_once() -> None:
    import signal

    with pytest.raises(KeyboardInterrupt), StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        signal.raise_signal(signal.SIGINT)


def test_a_signal_that_nobody_honoured_is_passed_on() -> None:
    import signal

    with pytest.raises(KeyboardInterrupt), StopRequest():
        signal.raise_signal(signal.SIGINT)
