"""Folders of runs that were never trained: their files alone, with what a test wants in them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorita.evaluation.comparison import Answer, Comparison, HeldOut
from lorita.evaluation.intervals import Change
from lorita.evaluation.proof import Forgot, Learned, Memorised, Proof
from lorita.settings.build import build_settings, to_yaml
from lorita.storage.manifest import Manifest
from lorita.storage.run_record import (
    BaseRecord,
    Check,
    DataRecord,
    FiguresRecord,
    MachineRecord,
    RowLengths,
    RunRecord,
)

PROOF = Proof(
    Learned(12, Change(3.5, 2.5, -1.2, -0.8), 8, Change(3.4, 2.0, -1.5, -1.3)),
    Forgot(24, Change(3.0, 3.1, 0.05, 0.15), 0.2),
    Memorised(8, 0, 1, 100, 2, 120, 6),
)


def comparison(*answers: tuple[str, str, str], tuned: float = 2.5) -> Comparison:
    made = tuple(Answer(*each) for each in answers or [("Who are you?", "A model.", "A cook.")])
    return Comparison("tiny", made, HeldOut(12, 3.5, tuned), PROOF)


def record(**changes: Any) -> RunRecord:
    made = RunRecord(
        base=BaseRecord("owner/tiny", "owner/tiny", None, False, "float32"),
        prompt_format={"kind": "text", "chat_template": None},
        stop_tokens=[],
        data=DataRecord(["/home/ana/rows.csv"], "f", 40, 12, [RowLengths(0, 9, 30)]),
        figures=FiguresRecord(
            final_training_loss=2.0,
            held_out_loss_base=3.5,
            held_out_loss_tuned=2.5,
            trainable_parameters="trainable params: 1,000 || all params: 9,000 || "
            "trainable%: 11.1111",
            run_seconds=70.0,
            peak_memory=2_000_000_000,
        ),
        checks=[Check("the file is whole", True, "4 of 4")],
        versions={"lorita": "1"},
        machine=MachineRecord("Linux", "x86_64", "AMD", 2, 1, None),
        seed=42,
    )
    return replace(made, **changes)


def events(steps: int = 10, *, ended: bool = True) -> list[dict[str, Any]]:
    """The log of a training whose loss falls."""
    step = {"event": "StepDone", "learning_rate": 1e-3, "tokens": 100, "seconds": 2.0}
    found: list[dict[str, Any]] = [
        {"event": "TrainingStarted", "first_step": 0, "max_steps": 10},
        {
            "event": "Forecasted", "peak_bytes": 1_000_000_000, "free_bytes": 9_000_000_000,
            "training": 10.0, "before": 20.0, "after": 30.0,
        },
        *(step | {"step": i, "loss": 4 - i / steps, "grad_norm": 0.5} for i in range(1, steps + 1)),
        {"event": "Evaluated", "step": 5, "loss": 3.0},
    ]  # fmt: skip
    return [*found, {"event": "TrainingEnded", "steps": steps, "seconds": 21.0}] if ended else found


def make_run(
    folder: Path,
    *,
    of: Comparison | None = None,
    recorded: RunRecord | None = None,
    log: list[dict[str, Any]] | None = None,
    finished: bool = True,
    **options: Any,
) -> Path:
    """A run's folder with record, comparison, settings and log."""
    folder.mkdir(parents=True)
    given: dict[str, Any] = {"model": "owner/tiny", "data": "/home/ana/rows.csv", **options}
    (folder / "run.yaml").write_text(to_yaml(build_settings(output_dir=folder, **given)))
    log = events() if log is None else log
    (folder / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in log))
    if finished:
        (of or comparison()).save(folder)
        (recorded or record()).save(folder)
    Manifest("run", frozenset(file.name for file in folder.iterdir())).save(folder)
    return folder
