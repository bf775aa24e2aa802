"""Several runs on one base, one after another, and which is best on the held-out rows.

    sweep_folder/
      sweep.json                          what was tried and what came out
      learning_rate-0.001_r-4/ …          each a whole run folder

The base is loaded once and measured once. A stopped sweep continues where it stopped:
finished runs are read, not repeated.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.errors import DataError, Interrupted, OutputError, RunFailed
from lorita.models import adapter as adapters
from lorita.models.adapter_halves import attached_options
from lorita.runs.chosen import filled_in
from lorita.runs.loaded_base import load_base
from lorita.runs.output_folder import check_apart, default_output_dir
from lorita.runs.prepare import prepare
from lorita.runs.report.write import complete_report
from lorita.runs.run import run_events
from lorita.runs.trackers import tracked
from lorita.settings.build import build_settings
from lorita.settings.facts import differences, options_where, scale_of, shape_options
from lorita.storage.run_folder import (
    SETTINGS_FILE,
    check_sweep_dir,
    is_run,
    open_sweep_dir,
)
from lorita.storage.run_record import read_record
from lorita.system.processes import is_lead
from lorita.training.checkpoint import list_checkpoints
from lorita.training.events import Event, Note, PhaseStarted, follow
from lorita.workflows.interruption import sweep_goes_on, sweep_interruption
from lorita.workflows.report import sweep_report_events
from lorita.workflows.sweep_grid import Point, make_grid
from lorita.workflows.sweep_result import SweepResult, Tried, read_sweep
from lorita.workflows.sweep_scale import scale_note

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lorita.evaluation.measure import Measured
    from lorita.runs.loaded_base import LoadedBase
    from lorita.runs.prepare import Prepared
    from lorita.runs.run import FinishedRun
    from lorita.settings.arguments import Options
    from lorita.settings.schema import RunSettings


def sweep(
    grid: Mapping[str, Sequence[Any]],
    *,
    config: str | Path | None = None,
    on_event: Callable[[Event], None] | None = None,
    **options: Unpack[Options],
) -> SweepResult:
    """Train every combination of the values in ``grid``, such as ``{"r": [4, 16]}``.

    ``config`` and ``options`` are those of ``lorita.train``; ``output_dir`` is the folder of the
    sweep. A run that diverges is recorded and the next one starts. Raises ``UserError`` for
    mistakes and ``Interrupted`` when stopped; the same call then continues.
    """
    points = make_grid(grid, config, **options)
    events = sweep_events(points, sweep_dir(points[0].settings, options.get("output_dir")))
    with sweep_interruption(overwrite=points[0].settings.overwrite):
        if on_event is not None:
            return follow(events, on_event)
        from lorita.workflows.progress import show_progress

        with show_progress(points[0].settings.logging_steps) as show:
            return follow(events, show)


def sweep_dir(settings: RunSettings, given: str | Path | None = None) -> Path:
    """The given folder, or the default folder of a run with ``-sweep`` appended."""
    folder = default_output_dir(settings)
    return folder if given is not None else folder.with_name(f"{folder.name}-sweep")


def sweep_events(points: Sequence[Point], folder: Path) -> Generator[Event, None, SweepResult]:
    """The sweep as events: those of its runs, with a note before each."""
    check_apart(points[0].settings, folder)
    check_sweep_dir(folder)
    _check_folder(folder, points)
    note = scale_note(points)
    if note is not None:
        yield Note(note)
    with ExitStack() as writing:
        return (yield from _runs(points, folder, writing))


def _runs(
    points: Sequence[Point], folder: Path, writing: ExitStack
) -> Generator[Event, None, SweepResult]:
    """The runs, one after another. ``writing`` holds the folder from the first file on."""
    failed = {run.name: run for run in read_sweep(folder) if run.failed}
    base: LoadedBase | None = None
    first: Prepared | None = None
    before: Measured | None = None
    done: list[Tried] = []
    for number, point in enumerate(points, 1):
        settings = _settings_in(folder, point)
        run = settings.output_dir
        assert run is not None
        found = _finished(run, point) or (failed.get(point.name) if is_run(run) else None)
        if found is None:
            yield PhaseStarted("Reading the rows")
            prepared = prepare(settings)
            first = first or prepared
            _require_same_rows(first, prepared)
            if base is None:
                yield PhaseStarted(f"Loading {settings.model}")
                base = load_base(settings, prepared)
                _check_targets(base, points)
        if number == 1 and is_lead():
            writing.enter_context(open_sweep_dir(folder))
        if found is not None:
            yield from complete_report(run)
        if found is None:
            assert base is not None
            yield Note(f"Run {number} of {len(points)}: {point.name}")
            # What is said about machine and data is the same for all runs: it is said once.
            run_here = run_events(settings, prepared, base, before=before, whole_proof=True)
            events = _quietly(tracked(run_here, settings, run), tell=not done)
            found, before = yield from _try(events, point, before)
        else:
            yield Note(f"Run {number} of {len(points)}: {point.name} already exists")
        done.append(found)
        if is_lead():
            SweepResult(folder, _base_loss(folder, done), tuple(done)).save()
    if is_lead():
        yield from sweep_report_events(folder)
    return SweepResult(folder, _base_loss(folder, done), tuple(done))


def _quietly(
    events: Generator[Event, None, FinishedRun], *, tell: bool
) -> Generator[Event, None, FinishedRun]:
    """The events of a run, without its notes unless ``tell``; warnings always."""
    with closing(events):
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                finished: FinishedRun = end.value
                return finished
            if tell or not isinstance(event, Note) or event.is_warning:
                yield event


def _try(
    events: Generator[Event, None, FinishedRun], point: Point, before: Measured | None
) -> Generator[Event, None, tuple[Tried, Measured | None]]:
    """One run of the sweep; returns its result and the base's measurement, if known."""
    try:
        finished = yield from events
    except RunFailed as error:
        yield Note(f"{point.name} failed: {error}", is_warning=True)
        scale = scale_of(point.settings)
        return Tried(point.name, point.values, None, None, None, error.problems[0], scale), before
    except Interrupted as stopped:
        raise Interrupted(stopped.problems, hint=sweep_goes_on(point.settings.overwrite)) from None
    found = _outcome(finished.path, point)
    assert found is not None  # the record is the last thing that a run writes
    return found, finished.before


def _settings_in(folder: Path, point: Point) -> RunSettings:
    """The point's settings in its own folder; an unfinished run there is continued."""
    run = folder / point.name
    started = bool(list_checkpoints(run))
    own = {"output_dir": run, "resume": started, "overwrite": is_run(run) and not started}
    return point.settings.model_copy(update=own)


def _check_folder(folder: Path, points: Sequence[Point]) -> None:
    """``OutputError`` if the sweep's folder contains runs with other settings."""
    problems = []
    may_differ = set(options_where(reused=False))
    kept = {p.name: folder / p.name / SETTINGS_FILE for p in points if not p.settings.overwrite}
    kept = {name: file for name, file in kept.items() if file.is_file()}
    data = prepare(points[0].settings, writes=False, weights=False).data if kept else None
    for point in points:
        if data is None or point.name not in kept:
            continue
        there = kept[point.name]
        now = filled_in(point.settings, data, int(os.environ.get("WORLD_SIZE", "1")))
        found = differences(build_settings(there), now, may_differ)
        problems += [
            f"{there.parent}: made with {name} = {before}, now it is {now}"
            for name, (before, now) in found.items()
        ]
    if problems:
        raise OutputError(
            problems, hint="Choose another --output-dir, or replace the runs with --overwrite."
        )


def _finished(run: Path, point: Point) -> Tried | None:
    """The result of a finished run; None if it is to be repeated."""
    return None if point.settings.overwrite else _outcome(run, point)


def _outcome(run: Path, point: Point) -> Tried | None:
    """The result of a finished run, from its record; None if there is none."""
    record = read_record(run)
    if record is None:
        return None
    failed = [check.name for check in record.checks if not check.passed]
    return Tried(
        point.name,
        point.values,
        None if failed else record.figures.held_out_loss_tuned,
        record.figures.final_training_loss,
        record.figures.training_seconds,
        failed[0] if failed else None,
        scale_of(point.settings),
    )


def _base_loss(folder: Path, done: Sequence[Tried]) -> float | None:
    """The base's held-out loss, from the first run that recorded it."""
    records = (read_record(folder / run.name) for run in done)
    return next((r.figures.held_out_loss_base for r in records if r is not None), None)


def _require_same_rows(first: Prepared, now: Prepared) -> None:
    if not now.data.held_out:
        raise DataError(
            "no rows are held out, so there is nothing to compare the runs by",
            hint="Give --eval-data FILE with rows that are not in --data, or --eval-fraction 0.1.",
        )
    if [e.input_ids for e in first.data.held_out] != [e.input_ids for e in now.data.held_out]:
        raise DataError(
            "the runs would be measured on different held-out rows, because the seed draws them",
            hint="Give --eval-data FILE, or --max-train-samples, to sweep over seed.",
        )


def _check_targets(base: LoadedBase, points: Sequence[Point]) -> None:
    """Check that every adapter fits the base before the first run starts."""
    for point in points:
        adapters.lora_config(base.model, attached_options(shape_options(point.settings)))
