"""``lorita train``, and ``lorita.train`` in Python: one run from settings to result."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.errors import UserError
from lorita.inference.tuned_model import TunedModel
from lorita.models.load_adapter import load_adapter
from lorita.runs.loaded_base import load_base
from lorita.runs.prepare import prepare
from lorita.runs.run import run_events
from lorita.runs.trackers import tracked
from lorita.settings.build import build_settings
from lorita.system.processes import is_lead
from lorita.training.events import Event, Note, PhaseStarted, follow
from lorita.workflows.interruption import run_interruption

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lorita.evaluation.comparison import Comparison
    from lorita.inference.options import GenerationArguments
    from lorita.settings.arguments import Options
    from lorita.settings.schema import RunSettings


@dataclass
class RunResult:
    """What ``lorita.train`` returns."""

    path: Path
    comparison: Comparison
    tuned: TunedModel
    losses: list[float]
    """Training loss of each step of this call, in nats per target token."""

    def compare(self) -> Comparison:
        """Before and after; ``print`` it."""
        return self.comparison

    def generate(self, prompt: str, **options: Unpack[GenerationArguments]) -> str:
        """What the tuned model adds to ``prompt``; options as in ``GenerationOptions``."""
        return self.tuned.generate(prompt, **options)

    def __repr__(self) -> str:
        return f"Run in {self.path}"

    def _repr_html_(self) -> str:
        """The run in a notebook: what was trained, the curve of its loss, and what came out."""
        from lorita.workflows.results_html import run_html

        return run_html(self.path)


def train(
    *,
    config: str | Path | None = None,
    on_event: Callable[[Event], None] | None = None,
    **options: Unpack[Options],
) -> RunResult:
    """Train a LoRA adapter and return the finished run.

    ``options`` are the fields of ``RunSettings`` (``model``, ``data``, ``r``, …) and ``config`` is
    a YAML file of the same; arguments take precedence. Progress is shown in the terminal or
    notebook, unless ``on_event`` takes the events. Raises ``UserError``, ``RunFailed`` or
    ``Interrupted``.
    """
    settings = build_settings(config, **options)
    with run_interruption(settings):
        if on_event is not None:
            return follow(train_events(settings), on_event)
        from lorita.workflows.progress import show_progress

        with show_progress(settings.logging_steps) as show:
            return follow(train_events(settings), show)


def train_events(
    settings: RunSettings, *, started: float | None = None
) -> Generator[Event, None, RunResult]:
    """The run as events; its return value is the ``RunResult``.

    ``started`` is when the command began (``time.perf_counter``).
    """
    started = time.perf_counter() if started is None else started
    yield PhaseStarted("Reading the rows")
    prepared = prepare(settings)
    yield PhaseStarted(f"Loading {settings.model}")
    base = load_base(settings, prepared)
    events = run_events(settings, prepared, base, started=started)
    finished = yield from tracked(events, settings, prepared.output_dir)
    yield PhaseStarted("Opening the finished run")
    model = load_adapter(base.model, finished.path).eval()  # from its files, as people will
    tuned = TunedModel(model, prepared.tokenizer, prepared.base, prepared.data.prompt_format)
    if settings.push_to_hub and is_lead():
        yield PhaseStarted("Uploading the run")
        yield from (Note(text) for text in _push(settings, finished.path))
    return RunResult(finished.path, finished.comparison, tuned, finished.losses)


def _push(settings: RunSettings, folder: Path) -> list[str]:
    """Upload a finished run; if that fails, the run is complete all the same."""
    from lorita.export.push import push_run

    try:
        address, notes = push_run(folder, settings.hub_model_id)
    except UserError as error:
        command = shlex.join(
            ["lorita", "push", str(folder), *filter(None, [settings.hub_model_id])]
        )
        again = f"The run itself is complete: {folder}. Once this is fixed: {command}"
        hint = f"{error.hint}\n{again}" if error.hint else again
        raise UserError(error.problems, hint=hint) from error
    return [*notes, f"Pushed: {address}"]
