"""``lorita runs``: the runs of a folder, or one of them, from their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lorita.errors import UserError
from lorita.runs.report.several import verdicts
from lorita.runs.report.story import Story, read_story
from lorita.runs.report.words import counts, data_names, model_name, state, summary
from lorita.storage.names import RUNS, meant
from lorita.storage.run_folder import LOG_FILE, RECORD_FILE, is_run

DEEPEST = 2
"""Folders below the given one that are looked into: a sweep's runs lie in the sweep's."""
MOST = 10_000


@dataclass(frozen=True)
class RunLine:
    """A run in short; losses in nats per token, None where they were not measured.

    ``problem`` says why its files cannot be read. ``when`` is the time of its last file.
    """

    run: str
    model: str = ""
    data: tuple[str, ...] = ()
    when: str = ""
    finished: bool = False
    training_loss: float | None = None
    held_out_loss_base: float | None = None
    held_out_loss: float | None = None
    verdicts: tuple[str, ...] = ()
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """All fields as plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class RunView:
    """One run: its line, and sentences about it."""

    line: RunLine
    summary: str
    state: str | None
    sentences: tuple[str, ...]
    trainable_parameters: str | None

    def as_dict(self) -> dict[str, Any]:
        """All fields as plain values, ready for JSON."""
        values = asdict(self)
        return {**values.pop("line"), **values}


def list_runs(folder: Path | None = None) -> list[RunLine]:
    """The runs in a folder (by default ``runs``) and the folders in it, the newest first.

    A run whose files are damaged is among them, with the problem. ``UserError`` if there is no
    such folder.
    """
    place = (folder or Path(RUNS)).expanduser()
    if not place.is_dir():
        hint = meant(str(place)) if folder else "Name a folder of runs: lorita runs FOLDER"
        raise UserError(f"{place}: no such folder", hint=hint)
    found = sorted(_runs(place, DEEPEST), key=_time, reverse=True)
    return [_line(run) for run in found]


def view_run(folder: Path) -> RunView:
    """One run; ``UserError`` if there is none or its files are damaged."""
    story = read_story(folder)
    proof = story.comparison.proof if story.comparison else None
    loss_line = story.comparison.loss_line() if story.comparison else None
    sentences = proof.sentences() if proof else [loss_line] if loss_line else []
    found = counts(story)
    return RunView(
        _of(story), summary(story), state(story), tuple(sentences), found[0] if found else None
    )


def is_one_run(folder: Path) -> bool:
    """Whether a folder is a run, and not a place of runs."""
    place = folder.expanduser()
    return (place / LOG_FILE).is_file() or (place / RECORD_FILE).is_file()


def _runs(folder: Path, depth: int) -> list[Path]:
    try:
        inside = sorted(each for each in folder.iterdir() if each.is_dir())[:MOST]
    except OSError:
        return []
    found = []
    for each in inside:
        if is_run(each) and is_one_run(each):
            found.append(each)
        elif depth > 1 and not each.is_symlink():
            found += _runs(each, depth - 1)
    return found


def _time(run: Path) -> float:
    files: Sequence[Path] = [run / RECORD_FILE, run / LOG_FILE]
    return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)


def _line(run: Path) -> RunLine:
    try:
        return _of(read_story(run))
    except UserError as error:
        return RunLine(str(run), when=_when(run), problem=error.problems[0])


def _when(run: Path) -> str:
    return datetime.fromtimestamp(_time(run), timezone.utc).astimezone().strftime("%Y-%m-%d %H:%M")


def _of(story: Story) -> RunLine:
    held = story.comparison.held_out if story.comparison else None
    return RunLine(
        run=str(story.folder),
        model=model_name(story),
        data=tuple(data_names(story)),
        when=_when(story.folder),
        finished=story.finished,
        training_loss=story.final_loss,
        held_out_loss_base=held.before if held else None,
        held_out_loss=held.after if held else None,
        verdicts=tuple(verdicts(story)),
    )
