"""Whatever counts what it does comes to its end, so that no bar stands still while work goes on."""

from __future__ import annotations

from pathlib import Path

import lorita
from lorita.training.events import Event, PhaseStarted
from tests import tiny


def counted(events: list[Event]) -> dict[str, tuple[float, int]]:
    """What was counted in each phase, and how much there was."""
    phases = [event for event in events if isinstance(event, PhaseStarted) and event.total]
    return {phase.text: (phase.count.done, phase.total or 0) for phase in phases}


def test_counts_of_a_run_and_of_evaluating_it(llama: Path, tmp_path: Path) -> None:
    data = tiny.write_csv(tmp_path / "rows.csv", tiny.make_texts(24))
    events: list[Event] = []
    run = lorita.train(
        model=str(llama), data=str(data), text_field="prompt", output_dir=str(tmp_path / "run"),
        max_steps=2, max_new_tokens=4, eval_fraction=0.2, on_event=events.append,
    )  # fmt: skip
    found = counted(events)
    assert {"Asking the tuned model", "Scoring rows with the tuned model"} <= found.keys()
    assert {text: done for text, (done, _) in found.items()} == {
        text: total for text, (_, total) in found.items()
    }
    events.clear()
    lorita.evaluate(run.path, on_event=events.append)
    found = counted(events)
    assert len(found) >= 3
    assert all(done == total for done, total in found.values()), found
