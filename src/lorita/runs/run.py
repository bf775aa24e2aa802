"""A whole run: settings in; adapter, before and after, model card and record out.

    attach ► train ► save ► measure after ► take off ► measure before ► compare ► record

``run_events`` is the run as a generator of events, on a base that is loaded already.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.errors import Interrupted, RunFailed
from lorita.evaluation.checks import check_adapter, check_moved, check_reload, require
from lorita.evaluation.comparison import MARKDOWN_FILE, Comparison
from lorita.evaluation.measure import measure, prompt_tensor
from lorita.models import adapter as adapters
from lorita.models.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from lorita.models.adapter_halves import is_computed
from lorita.models.base import save_tokenizer
from lorita.runs.asked import remember_own
from lorita.runs.base_answers import base_answers, is_answered
from lorita.runs.measuring_time import around_training
from lorita.runs.memory_plan import dropped
from lorita.runs.output_folder import continues, resume_source
from lorita.runs.questions import comparison_prompts, make_questions
from lorita.runs.report.write import report_events
from lorita.runs.results import compare_measured, write_results
from lorita.runs.run_model import Attached, adapter_on, as_saved, measure_base
from lorita.runs.schedule import begin_job
from lorita.settings.build import to_yaml
from lorita.storage.disk import remove
from lorita.storage.files import new_part, write_atomic
from lorita.storage.manifest import claim, place
from lorita.storage.run_folder import (
    LOG_FILE,
    RECORD_FILE,
    SETTINGS_FILE,
    open_run_dir,
    resume_command,
)
from lorita.storage.run_log import append_log
from lorita.system.memory import errors_before_the_limit, release_freed
from lorita.system.processes import is_lead
from lorita.training.checkpoint import list_checkpoints
from lorita.training.events import (
    Compared,
    Event,
    Note,
    PhaseStarted,
    RunEnded,
    StepDone,
    TrainingEnded,
)
from lorita.training.stop_request import StopRequest

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

    from lorita.evaluation.measure import Measured
    from lorita.runs.loaded_base import LoadedBase
    from lorita.runs.prepare import Prepared
    from lorita.runs.training_job import TrainingJob
    from lorita.settings.schema import RunSettings
    from lorita.storage.run_record import Check


@dataclass(frozen=True)
class FinishedRun:
    """The result of a run, whose files are in ``path``.

    ``losses`` has one value per step of this process, in nats per target token. ``before`` is the
    base's measurement, which another run with the same questions can reuse.
    """

    path: Path
    comparison: Comparison
    losses: list[float]
    before: Measured


def _start(settings: RunSettings) -> str:
    """What is done first; decomposing every matrix of a base can take minutes."""
    scheme = settings.init_lora_weights
    if is_computed(scheme):
        return f"Computing where the adapter starts ({scheme})"
    return "Putting the adapter on"


def run_events(
    settings: RunSettings,
    prepared: Prepared,
    base: LoadedBase,
    *,
    before: Measured | None = None,
    whole_proof: bool = False,
    started: float | None = None,
) -> Generator[Event, None, FinishedRun]:
    """The run as events. The base ends as it was loaded, even if the run fails.

    ``before`` is the base's measurement from an earlier run with the same, whole questions.
    ``whole_proof``: all rows are measured, whatever the training took. ``started`` is when the
    command began. ``RunFailed`` with the last good adapter saved, ``Interrupted`` with checkpoint.
    """
    started = time.perf_counter() if started is None else started
    folder = prepared.output_dir
    yield from (Note(text) for text in (*base.notes, *prepared.data.notes))
    yield from (Note(text, is_warning=True) for text in prepared.data.warnings)
    yield PhaseStarted(f"{_start(settings)} and building kernels")
    prompts = comparison_prompts(settings, prepared, base.model)
    spare = dropped(settings, prepared, base.sizes, base.dtype.itemsize)
    with _disk_trouble_said(folder), errors_before_the_limit(spare), ExitStack() as writing:
        with adapter_on(base, settings, prepared) as attached:
            yield from (Note(text) for text in (*attached.notes, attached.parameter_line))
            job = yield from begin_job(settings, prepared, attached, prompts, started=started)
            settings = job.settings
            job.find_checkpoint()  # whatever can be refused is refused before anything is written
            paid = None if whole_proof or before is not None else job.work.tokens
            questions = make_questions(settings, prepared, base.model, prompts, trained_tokens=paid)
            if questions.left_out is not None:
                yield Note(questions.left_out)
            if settings.probe:
                asks = before is None and not is_answered(base, questions, settings)
                job.around = around_training(base.model, questions, started=started, asks_base=asks)
            if is_lead():
                writing.enter_context(_made_ready(settings, folder))
            losses = yield from _train(job)
            base.accelerator.wait_for_everyone()
            release_freed()  # what the steps have used, for the larger pieces of the proof
            after = yield from measure(base.model, questions, "the tuned model")
            yield PhaseStarted("Checking the saved adapter")
            checks = _checks(attached, prepared, prompts[0])
        if before is None:
            ask = partial(measure_base, base, questions, fast=settings.speedup)
            before = yield from base_answers(base, questions, settings, ask)
        checks.append(check_moved(before.logits, after.logits))
        comparison = yield from compare_measured(settings.model, questions, before, after)
        if is_lead():
            write_results(
                settings, prepared, base, comparison, checks,
                parameter_line=attached.parameter_line, seconds=time.perf_counter() - started,
            )  # fmt: skip
            yield from report_events(folder)
        base.accelerator.wait_for_everyone()
    require(checks)
    yield Note(f"Checks: all {len(checks)} passed (listed in {folder / RECORD_FILE})")
    yield Compared(folder / MARKDOWN_FILE)
    yield RunEnded(folder, (folder / WEIGHTS_FILE).stat().st_size, time.perf_counter() - started)
    return FinishedRun(folder, comparison, losses, before)


def _checks(attached: Attached, prepared: Prepared, prompt: str) -> list[Check]:
    """Whether the adapter's files are whole and do what the adapter in memory does."""
    folder, model = prepared.output_dir, attached.base.model
    prompt_1L = prompt_tensor(model, prepared.tokenizer, prompt, prepared.invocation_tokens)
    return [
        *check_adapter(attached.model, folder),
        *check_reload(attached.model, folder, prompt_1L),
    ]


@contextmanager
def _made_ready(settings: RunSettings, folder: Path) -> Iterator[None]:
    """The folder of the run, which nobody else writes to while the block runs."""
    goes_on = continues(settings, folder)
    keep = resume_source(settings) is not None
    overwrite = settings.overwrite
    with open_run_dir(folder, continues=goes_on, overwrite=overwrite, keep_checkpoints=keep):
        if not goes_on:
            claim(folder, [SETTINGS_FILE])
            write_atomic(folder / SETTINGS_FILE, to_yaml(settings))
            remember_own(settings, folder)
        claim(folder, [LOG_FILE])
        yield


def _train(job: TrainingJob) -> Generator[Event, None, list[float]]:
    """Train and save the adapter; return the losses. On failure the last good adapter is saved.

    What follows the last step is only told when the adapter is saved.
    """
    settings, prepared, attached = job.settings, job.prepared, job.attached
    folder = prepared.output_dir
    losses = []
    ended: list[Event] = []
    try:
        with StopRequest() as stop:
            for event in job.events(stop):
                if is_lead() and not isinstance(event, PhaseStarted):
                    append_log(folder, event.record())
                if isinstance(event, StepDone):
                    losses.append(event.loss)
                if isinstance(event, TrainingEnded) or ended:
                    ended.append(event)
                else:
                    yield event
        model = as_saved(attached, settings)
        if is_lead():
            _save_adapter(model, folder)
            _save_tokenizer(prepared.tokenizer, folder)
        yield from ended
    except Interrupted as stopped:
        hint = f"Continue with: {resume_command(folder)}"
        raise Interrupted(stopped.problems, hint=hint) from None
    except RunFailed as failed:
        hint = _save_good(job, attached, folder, failed)
        raise RunFailed(failed.problems, hint=hint) from None
    return losses


def _save_adapter(model: PeftModel, folder: Path) -> None:
    claim(folder, [WEIGHTS_FILE, CONFIG_FILE])
    adapters.save_adapter(model, folder)


def _save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write its files, whose names only the tokenizer knows, and then move them into place."""
    part = new_part(folder / "tokenizer")
    try:
        save_tokenizer(tokenizer, part)
        place(part, folder)
    finally:
        remove(part)


def _save_good(job: TrainingJob, attached: Attached, folder: Path, failed: RunFailed) -> str:
    """Save the last good adapter of a failed run; return the hint that says so."""
    step = job.restore_good()
    if is_lead():
        _save_adapter(attached.model, folder)
    what = f"from step {step}" if step else "as it was initialised (no step was good)"
    kept = f"The last good adapter, {what}, is in {folder}."
    return "\n".join(part for part in (failed.hint, kept) if part)


@contextmanager
def _disk_trouble_said(folder: Path) -> Iterator[None]:
    """Turn a full or missing disk into one message: what is saved and how to continue."""
    try:
        yield
    except OSError as error:
        try:
            last = next(iter(list_checkpoints(folder)[::-1]), None)
            left = f"{last} is whole" if last else "No checkpoint was saved yet"
        except OSError:  # the folder cannot even be read any more
            left = "The checkpoints in the folder are unchanged"
        raise RunFailed(
            f"{error.filename or folder}: cannot be written ({error.strerror or error})",
            hint=f"{left}. Free some space, then: {resume_command(folder)}",
        ) from None
