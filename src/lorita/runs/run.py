"""A whole run: settings in; adapter, before and after, model card and record out.

    prepare ► base model ► attach ► train ► save ► after ► before ► compare ► record

``run_events`` is the run as a generator of events. ``train`` is the function that people call.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorita.errors import Interrupted, RunFailed
from lorita.evaluation.checks import require
from lorita.evaluation.comparison import MARKDOWN_FILE, Comparison
from lorita.inference.tuned_model import TunedModel
from lorita.models import adapter as adapters
from lorita.models.base import save_tokenizer
from lorita.runs.output_folder import continues, resume_source
from lorita.runs.results import write_results
from lorita.runs.run_model import Session
from lorita.settings.build import to_yaml
from lorita.settings.schema import RunSettings
from lorita.storage.files import remove_parts, write_atomic
from lorita.storage.run_folder import RECORD_FILE, SETTINGS_FILE, create_run_dir
from lorita.storage.run_log import append_log
from lorita.system.processes import is_lead
from lorita.training.checkpoint import list_checkpoints
from lorita.training.events import Compared, Event, Note, RunEnded, StepDone
from lorita.training.stop_request import StopRequest


@dataclass
class RunResult:
    """What ``lorita.train`` returns."""

    path: Path
    comparison: Comparison
    tuned: TunedModel
    losses: list[float]
    """Training loss of each step done now, in nats per target token."""

    def compare(self) -> Comparison:
        """Before and after; ``print`` it."""
        return self.comparison

    def generate(self, prompt: str, **options: Any) -> str:
        """What the tuned model adds to ``prompt``; options as in ``GenerationOptions``."""
        return self.tuned.generate(prompt, **options)


def session_events(session: Session, started: float) -> Generator[Event, None, RunResult]:
    """A run whose base is loaded, ``started`` by ``time.perf_counter``; see ``run_events``."""
    settings, prepared = session.settings, session.prepared
    folder = prepared.output_dir
    for text in [*session.take_notes(), *prepared.data.notes]:
        yield Note(text)
    for text in prepared.data.warnings:
        yield Note(text, is_warning=True)
    session.attach()
    for text in [*session.take_notes(), session.parameter_line]:
        yield Note(text)
    with _disk_trouble_said(folder):
        if is_lead():
            _make_ready(settings, folder)
        losses = yield from _train(session, folder)
        session.accelerator.wait_for_everyone()
        yield Note("Asking the tuned model and the base")
        before, after, checks = session.finish()
        comparison = session.compare(before, after)
        if is_lead():
            write_results(folder, session, comparison, checks)
        session.accelerator.wait_for_everyone()
    require(checks)
    yield Note(f"Checks: all {len(checks)} passed (listed in {folder / RECORD_FILE})")
    yield Compared(folder / MARKDOWN_FILE)
    size = (folder / adapters.WEIGHTS_FILE).stat().st_size
    yield RunEnded(folder, size, time.perf_counter() - started)
    tuned = TunedModel(
        session.peft_model, prepared.tokenizer, prepared.base, prepared.data.prompt_format
    )
    return RunResult(folder, comparison, tuned, losses)


def _make_ready(settings: RunSettings, folder: Path) -> None:
    """Make a new run's folder, or clear away what a killed process left half written."""
    if continues(settings, folder):
        remove_parts(folder)
        return
    create_run_dir(folder, keep_checkpoints=resume_source(settings) is not None)
    write_atomic(folder / SETTINGS_FILE, to_yaml(settings))


def _train(session: Session, folder: Path) -> Generator[Event, None, list[float]]:
    """Train and save the adapter; returns the losses. A failure saves the last good adapter."""
    losses = []
    try:
        with StopRequest() as stop:
            for event in session.train(stop):
                if is_lead():
                    append_log(folder, event.record())
                if isinstance(event, StepDone):
                    losses.append(event.loss)
                yield event
        session.detach_from_training()
        if is_lead():
            adapters.save_adapter(session.peft_model, folder)
            save_tokenizer(session.prepared.tokenizer, folder)
    except Interrupted as stopped:
        command = f"lorita train {folder} --resume"
        raise Interrupted(stopped.problems, hint=f"Continue with: {command}") from None
    except RunFailed as failed:
        raise RunFailed(failed.problems, hint=_save_good(session, folder, failed)) from None
    return losses


def _save_good(session: Session, folder: Path, failed: RunFailed) -> str:
    """Save the last good adapter of a run that failed; what there is to say about it."""
    step = session.job.restore_good()
    if is_lead():
        adapters.save_adapter(session.peft_model, folder)
    what = f"after step {step}" if step else "as it began (no step was good: it changes nothing)"
    kept = f"The last good adapter, {what}, is in {folder}."
    return "\n".join(part for part in (failed.hint, kept) if part)


@contextmanager
def _disk_trouble_said(folder: Path) -> Iterator[None]:
    """A disk that is full or gone is one message, with what is left and how to go on."""
    try:
        yield
    except OSError as error:
        try:
            last = next(iter(list_checkpoints(folder)[::-1]), None)
            left = f"{last} is whole" if last else "No checkpoint was saved yet"
        except OSError:  # the folder cannot even be read any more
            left = "The checkpoints in the folder are as they were"
        raise RunFailed(
            f"{error.filename or folder}: cannot be written ({error.strerror or error})",
            hint=f"{left}. Make room, then: lorita train {folder} --resume",
        ) from None
