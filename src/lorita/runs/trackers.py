"""Sends what happens in a run to the trackers of ``report_to``, through accelerate's classes.

The curves have the names that transformers' Trainer gives them. Where a tracker keeps or sends them
is its own affair and set by its own environment variables; ``HF_HUB_OFFLINE`` keeps wandb offline,
too. A tracker that fails once the run has begun is dropped with a warning: the run goes on.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.errors import RunFailed, SettingsError
from lorita.runs.asked import require_asked_trackers
from lorita.runs.output_folder import continues
from lorita.runs.report.words import shown_value
from lorita.system.memory import memory_in_use
from lorita.system.processes import is_lead
from lorita.training.events import Evaluated, Event, Note, StepDone

if TYPE_CHECKING:
    from lorita.evaluation.comparison import Comparison
    from lorita.runs.run import FinishedRun
    from lorita.settings.schema import RunSettings

PROJECT = "lorita"
"""The project or experiment that runs are put in, unless a tracker's own variable names another."""
NUMBERS_ONLY = ("mlflow",)


def check_trackers(settings: RunSettings) -> None:
    """``SettingsError`` if a tracker is not installed, or if only a settings file asks for them."""
    missing = [name for name in settings.report_to if importlib.util.find_spec(name) is None]
    if missing:
        extras = ",".join(missing)
        raise SettingsError(
            f"report_to: not installed: {', '.join(missing)}",
            hint=f'Install with: pip install "lorita[{extras}]"; or leave out --report-to.',
        )
    require_asked_trackers(settings)


def tracked(
    events: Generator[Event, None, FinishedRun], settings: RunSettings, folder: Path
) -> Generator[Event, None, FinishedRun]:
    """The events of a run, which are sent to the trackers on their way.

    Of several processes, one sends them. Raises ``RunFailed`` if a tracker cannot be started.
    """
    with closing(events):
        if not settings.report_to or not is_lead():
            return (yield from events)
        trackers = _Trackers(settings, folder)
        try:
            finished = yield from _followed(events, trackers)
        finally:
            trackers.finish()
        yield from trackers.trouble()
        return finished


def _followed(
    events: Generator[Event, None, FinishedRun], trackers: _Trackers
) -> Generator[Event, None, FinishedRun]:
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            finished: FinishedRun = end.value
            trackers.send(proof_figures(finished.comparison))
            trackers.send(_sentences(finished.comparison), texts=True)
            return finished
        trackers.follow(event)
        yield event
        yield from trackers.trouble()


class _Trackers:
    """The started trackers of a run, and the last step that was done."""

    def __init__(self, settings: RunSettings, folder: Path) -> None:
        self._step = 0
        self._trouble: list[Note] = []
        self._open: dict[str, Any] = {}
        for name in dict.fromkeys(settings.report_to):
            try:
                with redirect_stdout(sys.stderr):  # standard output is for results
                    tracker = _make(name, settings, folder)
                    tracker.start()
                    tracker.store_init_configuration(_configuration(settings))
            except Exception as error:
                self.finish()
                raise RunFailed(
                    f"{name}: the tracker cannot be started ({_first_line(error)})",
                    hint="Nothing was trained. Put it right, or leave out --report-to.",
                ) from error
            self._open[name] = tracker

    def follow(self, event: Event) -> None:
        """Send the figures of an event, if it has any."""
        if isinstance(event, (StepDone, Evaluated)):
            self._step = event.step
            self.send(figures(event))

    def send(self, values: Mapping[str, Any], *, texts: bool = False) -> None:
        """Send values of the last step; ``texts`` go to those that take them."""
        for name in list(self._open):
            if values and not (texts and name in NUMBERS_ONLY):
                self._try(name, lambda tracker: tracker.log(dict(values), step=self._step))

    def finish(self) -> None:
        """Close all of them."""
        for name in list(self._open):
            self._try(name, lambda tracker: tracker.finish())
            self._open.pop(name, None)

    def trouble(self) -> list[Note]:
        """Warnings about trackers that failed since the last call."""
        said, self._trouble = self._trouble, []
        return said

    def _try(self, name: str, do: Callable[[Any], None]) -> None:
        try:
            with redirect_stdout(sys.stderr):
                do(self._open[name])
        except Exception as error:
            del self._open[name]
            text = f"{name} gets nothing more: {_first_line(error)}. The run itself goes on."
            self._trouble.append(Note(text, is_warning=True))


def figures(event: StepDone | Evaluated) -> dict[str, float]:
    """The figures of an event under the names of transformers' Trainer; finite ones only."""
    if isinstance(event, Evaluated):
        return _finite({"eval/loss": event.loss})
    return _finite({
        "train/loss": event.loss,
        "train/learning_rate": event.learning_rate,
        "train/grad_norm": event.grad_norm,
        "train/epoch": event.epoch,
        "train/tokens_per_second": event.tokens / max(event.seconds, 1e-9),
        "train/memory_gb": memory_in_use() / 1e9,
    })  # fmt: skip


def proof_figures(comparison: Comparison) -> dict[str, float]:
    """What was measured at the end: losses in nats per token, shares from 0 to 1."""
    held, proof = comparison.held_out, comparison.proof
    found: dict[str, float] = {}
    if held is not None:
        found |= {"proof/held_out_loss_base": held.before, "proof/held_out_loss_tuned": held.after}
    if proof is None:
        return _finite(found)
    for name, change in (("learned", proof.learned.held_out), ("forgot", proof.forgot.change)):
        if change is not None:
            found[f"proof/{name}_change"] = change.value
            found[f"proof/{name}_low"], found[f"proof/{name}_high"] = change.low, change.high
    found["proof/divergence"] = proof.forgot.divergence
    memorised = proof.memorised
    if memorised is not None and memorised.rows:
        found["proof/extracted"] = memorised.extracted / memorised.rows
    if memorised is not None and memorised.written:
        found["proof/copied"] = memorised.copied / memorised.written
    return _finite(found)


def _sentences(comparison: Comparison) -> dict[str, str]:
    names = ("proof/learned", "proof/forgot", "proof/memorised")
    proof = comparison.proof
    return dict(zip(names, proof.sentences(), strict=True)) if proof is not None else {}


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def _configuration(settings: RunSettings) -> dict[str, Any]:
    """The settings as trackers take them: numbers, truth values, and text for all else.

    Of files and folders, the names alone.
    """
    plain = (bool, int, float)
    return {
        name: value if isinstance(value, plain) else shown_value(value) for name, value in settings
    }


def _make(name: str, settings: RunSettings, folder: Path) -> Any:
    """accelerate's tracker of that name for the run in ``folder``."""
    from accelerate import tracking

    run = folder.absolute().name
    if name == "tensorboard":
        return tracking.TensorBoardTracker(**_tensorboard_place(settings, folder))
    if name == "mlflow":
        return tracking.MLflowTracker(experiment_name=PROJECT, run_name=run)
    if name == "trackio":
        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        return tracking.TrackioTracker(project, name=run, embed=False)
    offline = _is_set("HF_HUB_OFFLINE") and "WANDB_MODE" not in os.environ
    mode = {"mode": "offline"} if offline else {}
    return tracking.WandBTracker(os.environ.get("WANDB_PROJECT", PROJECT), name=run, **mode)


def _tensorboard_place(settings: RunSettings, folder: Path) -> dict[str, str]:
    """``tensorboard/`` beside the run's folder, so that one TensorBoard shows all runs there.

    A run that replaces another gets a name of its own: curves of two runs in one are of no use.
    """
    given = os.environ.get("TENSORBOARD_LOGGING_DIR")
    place = Path(given) if given else folder.absolute().parent / "tensorboard"
    name = folder.absolute().name
    mine = re.compile(re.escape(name) + r"(?:-(\d+))?")
    found = [mine.fullmatch(each.name) for each in place.iterdir()] if place.is_dir() else []
    last = max((int(each[1] or 1) for each in found if each), default=0)
    number = last if last and continues(settings, folder) else last + 1
    return {"run_name": name if number <= 1 else f"{name}-{number}", "logging_dir": str(place)}


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").upper() in ("1", "ON", "YES", "TRUE")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
