"""SIGTERM in every phase of a command: 130, one message, and what is worth keeping is kept."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lorita import cli
from lorita.errors import ModelError
from lorita.system import signals
from tests.command import Outcome, python
from tests.runs.test_run import train
from tests.training.test_resume import adapter, resume

# The command sends itself a signal when it comes to a certain place.
DRIVER = """
import importlib, signal, sys
place, name, *arguments = sys.argv[1:]

def stop(*_, **__):
    signal.raise_signal(getattr(signal, name))

class AtImport:
    def find_spec(self, module, *_):
        if module == place.removeprefix("import "):
            stop()

if place.startswith("import "):
    sys.meta_path.insert(0, AtImport())
else:
    module, _, function = place.rpartition(".")
    module = importlib.import_module(module)
    before = getattr(module, function)
    setattr(module, function, lambda *a, **k: (stop(), before(*a, **k))[1])

from lorita.cli import main
main(arguments)
"""


def stopped(place: str, name: str, *arguments: object) -> Outcome:
    done = python(
        "-c", DRIVER, place, name, *arguments,
        anew=place.startswith("import "), OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert "Traceback" not in done.err, done.err
    assert done.err.count("Interrupted") == 1, done.err
    assert done.code == 130, done.err
    return done


def arguments(model: Path, data: Path, run: Path) -> list[object]:
    return [
        "train", "--model", model, "--data", data, "--text-field", "prompt", "--dtype", "float32",
        "--max-steps", "4", "--eval-steps", "2", "--max-new-tokens", "2", "--use-cpu",
        "--learning-rate", "1e-2", "--per-device-train-batch-size", "8", "--no-proof",
        "--output-dir", run,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("import lorita.cli.train", "SIGINT"),
        pytest.param("import transformers", "SIGTERM", marks=pytest.mark.slow),
        ("lorita.runs.loaded_base.load_model", "SIGHUP"),
    ],
)
def test_before_training(llama: Path, prompts: Path, tmp_path: Path, place: str, name: str) -> None:
    run = tmp_path / "run"
    stopped(place, name, *arguments(llama, prompts, run))
    assert not run.exists()


@pytest.mark.parametrize(
    ("place", "step"),
    [
        ("lorita.runs.training_job.score_rows", 2),  # the evaluation comes first on resume
        pytest.param("lorita.training.checkpoint.save_adapter", 4, marks=pytest.mark.slow),
        ("lorita.runs.run.measure", 4),
    ],
)
def test_in_training_and_after_it(
    llama: Path, prompts: Path, tmp_path: Path, place: str, step: int
) -> None:
    """What was computed is in a checkpoint, from which the run ends as if it had not been stopped;
    the one that was kept only for this is gone then."""
    train(tmp_path / "whole", llama, prompts, max_steps=4, eval_steps=2, max_new_tokens=2,
          per_device_train_batch_size=8, proof=False)  # fmt: skip
    run = tmp_path / "run"
    said = stopped(place, "SIGTERM", *arguments(llama, prompts, run)).err
    assert f"Continue with: lorita train {run} --resume" in said
    assert (run / f"checkpoint-{step}").is_dir()
    resume(run)
    assert adapter(run) == adapter(tmp_path / "whole")
    kept = {f"checkpoint-{step}"} if step < 4 else set()
    assert {path.name for path in run.glob("checkpoint-*")} == kept
    log = (run / "log.jsonl").read_text()
    assert log.count('"Evaluated"') == (tmp_path / "whole/log.jsonl").read_text().count(
        '"Evaluated"'
    )


def test_in_a_merge(llama: Path, prompts: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(run, llama, prompts, max_steps=2, max_new_tokens=2, proof=False)
    before = sorted(tmp_path.iterdir())
    stopped("lorita.export.merged.merge.write_safetensors", "SIGTERM", "merge", run,
            tmp_path / "out")  # fmt: skip
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("cause", "ago", "code"),
    [
        (TypeError("no shape"), 0.0, 130),  # what a library in C made of the interruption
        (TypeError("no shape"), 60.0, 2),  # Ctrl-C in a chat, which went on
        (TypeError("no shape"), None, 2),
        (OSError("disk full"), 0.0, 2),
        (None, 0.0, 2),
    ],
)
def test_an_interruption_that_a_library_lost(
    cause: Exception | None, ago: float | None, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(*given: object, **more: object) -> None:
        raise ModelError("it does not fit") from cause

    when = None if ago is None else time.monotonic() - ago
    monkeypatch.setattr(signals._Asked, "interrupted", when)
    monkeypatch.setattr(cli, "make_app", lambda tokens: command)
    assert cli.run(["targets", "--help"]) == code
