"""The run in sentences, and the names of what took part without folders of this machine."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.export.usage import load_path
from lorita.settings.schema import RunSettings
from lorita.storage.names import is_path
from lorita.system.durations import duration
from lorita.system.memory import gigabytes

if TYPE_CHECKING:
    from lorita.runs.report.story import Story

NOT_SHOWN = ("output_dir", "overwrite", "resume", "resume_from_checkpoint", "push_to_hub")
"""Options about where a run is and how it was started, not about what it is."""
_COUNTS = re.compile(
    r"trainable params: ([\d,]+) \|\| all params: [\d,]+ \|\| trainable%: ([\d.]+)"
)


@dataclass(frozen=True)
class Changed:
    """An option that is not at its default, with its help text."""

    name: str
    value: str
    default: str
    help: str


@dataclass(frozen=True)
class Compared:
    """A figure as it was forecast and as it came out; ``share`` is the latter in percent."""

    name: str
    forecast: str
    measured: str
    share: float | None


def run_name(story: Story) -> str:
    """The name of the run's folder."""
    return story.folder.absolute().name


def model_name(story: Story) -> str:
    """The base model; of a file or folder, the name alone."""
    name = story.record.base.name if story.record else _asked(story, "model")
    return name if name is not None and not is_path(name) else Path(name or "a model").name


def data_names(story: Story) -> list[str]:
    """The sources of the rows; of files and folders, the names alone."""
    origin = story.record.data.origin if story.record else (_asked(story, "data") or [])
    return [_source(name) for name in origin]


def _source(name: str) -> str:
    if name == "-":
        return "standard input"
    local = is_path(name) or Path(name).suffix != "" or Path(name).exists()
    return Path(name).name if local and "://" not in name else name


def _asked(story: Story, name: str) -> Any:
    return getattr(story.settings, name) if story.settings else None


def counts(story: Story) -> tuple[str, str] | None:
    """Trained parameters, and their percentage of all; None if the record does not say."""
    line = story.record.figures.trainable_parameters if story.record else ""
    found = _COUNTS.fullmatch(line)
    return (found[1], f"{float(found[2]):.2g}") if found else None


def summary(story: Story) -> str:
    """What was trained on what, how long, in one sentence."""
    record, training, settings = story.record, story.training, story.settings
    rows = f"{record.data.train_rows:,} rows" if record else "the rows"
    if record and record.data.train_rows == 1:
        rows = "1 row"
    names = data_names(story)
    text = f"{model_name(story)} was trained on {rows}"
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        text += f" of {', '.join(names[:3])}{more}"
    if settings is not None:
        targets = settings.target_modules
        where = "all linear layers" if targets == "all-linear" else "chosen layers"
        text += f", with LoRA of rank {settings.r} on {where}"
    if found := counts(story):
        text += f" ({found[0]} parameters, {found[1]} % of all)"
    steps = len(training.steps)
    if steps:
        text += f": {steps:,} step{'' if steps == 1 else 's'} in {duration(training.seconds)}"
    return f"{text}."


def state(story: Story) -> str | None:
    """What to know before anything else about a run that is not whole; None for a whole one."""
    training = story.training
    if not story.finished:
        done = training.steps[-1].number if training.steps else 0
        of = f" of {training.max_steps:,}" if training.max_steps else ""
        return f"This run is not finished. Its log goes to step {done:,}{of}."
    failed = [check for check in story.record.checks if not check.passed] if story.record else []
    if failed:
        return "Failed checks: " + "; ".join(f"{each.name} ({each.found})" for each in failed)
    return None


def changed_settings(story: Story) -> list[Changed]:
    """The options that are not at their defaults, and those that have none."""
    settings = story.settings
    if settings is None:
        return []
    found = []
    for name, field in RunSettings.model_fields.items():
        value = getattr(settings, name)
        if name in NOT_SHOWN or (not field.is_required() and value == field.default):
            continue
        default = "" if field.is_required() else shown_value(field.default)
        found.append(Changed(name, shown_value(value), default, field.description or ""))
    return found


def shown_value(value: Any) -> str:
    """A value as it is written; paths by their names alone."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown_value, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key}={each}" for key, each in value.items())
    if isinstance(value, Path) or (isinstance(value, str) and is_path(value)):
        return Path(value).name
    return f"{value:g}" if isinstance(value, float) else str(value)


def costs(story: Story) -> list[Compared]:
    """Memory and times, as forecast by the first steps and as measured."""
    training, record = story.training, story.record
    expected = training.expected
    rows: list[tuple[str, float | None, float | None, Any]] = [
        (
            "memory at its peak",
            expected.peak_memory if expected else None,
            record.figures.peak_memory if record else None,
            lambda size: gigabytes(int(size)),
        ),
        (
            "training",
            expected.training if expected else None,
            training.seconds if training.ended else None,
            duration,
        ),
        (
            "the whole command",
            expected.whole if expected else None,
            record.figures.run_seconds if record and not training.resumed else None,
            duration,
        ),
    ]
    return [
        Compared(
            name,
            "not known" if forecast is None else form(forecast),
            "not known" if measured is None else form(measured),
            round(100 * measured / forecast, 1) if forecast and measured is not None else None,
        )
        for name, forecast, measured, form in rows
        if forecast is not None or measured is not None
    ]


def commands(story: Story) -> list[tuple[str, str]]:
    """What one can do with the run: in words, and as the command to copy."""
    run = load_path(story.folder)
    quoted = shlex.quote(run)
    if not story.finished:
        return [("Continue the run", f"lorita train {quoted} --resume")]
    name = shlex.quote(run_name(story))
    return [
        ("Ask it something", f'lorita generate {quoted} "..."'),
        ("Chat with it", f"lorita chat {quoted}"),
        ("Compare it with the base on other prompts", f'lorita compare {quoted} --prompt "..."'),
        ("Measure it on all rows", f"lorita evaluate {quoted}"),
        ("Use it in llama.cpp", f"lorita export gguf {quoted} {name}.gguf"),
        ("Use it in Ollama", f"lorita export ollama {quoted} {name}-ollama"),
        ("Merge it into its base", f"lorita merge {quoted} {name}-merged"),
        ("Repeat the run", f"lorita train {shlex.quote(f'{run}/run.yaml')} --output-dir {name}-2"),
        ("Make this page anew", f"lorita report {quoted}"),
    ]
