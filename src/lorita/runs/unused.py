"""Options that were given and do nothing in this run, each with the reason.

Only values that differ from the default count as given: a settings file lists every option. What is
impossible, rather than without effect, is refused elsewhere.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.data.sources.find_files import STANDARD_INPUT
from lorita.data.sources.open_file import kind_of
from lorita.settings.schema import RunSettings

if TYPE_CHECKING:
    from lorita.models.base import Base
    from lorita.training.loop import Pace

_TEXT_KINDS = ("text", "markdown")
_WITH_SPLITS = ("json",)
"""Types of files in which rows may be listed under the names of splits."""


def unused_for_data(settings: RunSettings, base: Base, kind: str) -> list[str]:
    """Options of base and data without effect; ``kind`` is that of the rows: text, pair or chat."""
    python = settings.given("data") is not None
    on_hub = not python and any(map(_is_on_hub, settings.data))
    files = {kind_of(Path(item))[1] or "" for item in settings.data if _is_file(item)}
    named_files = not python and all(map(_is_file, settings.data))
    types = {settings.file_type} if settings.file_type else files
    no_texts = python or (named_files and not types & {*_TEXT_KINDS, ""})
    no_splits = named_files and not types & {*_WITH_SPLITS, ""}
    here = "the model is on this machine"
    passed = "the rows were passed in Python"
    rules = [
        ("revision", not base.is_hub, here),
        ("trust_remote_code", base.gguf_path is not None, "a GGUF file holds no code"),
        ("data_revision", not on_hub, passed if python else "the data is on this machine"),
        ("data_name", python, passed),
        ("file_type", python or not (files or _others(settings)), "there are no files"),
        ("streaming", python, passed),
        ("data_split", no_splits, "a file of this type has no splits; all its rows are used"),
        ("text_unit", no_texts, "these rows do not come from a text file"),
        ("chat_template", kind == "text", "these rows are plain texts"),
        ("ignore_fields", kind != "chat", "these rows are no chats"),
        ("eval_fraction", settings.eval_data is not None, "held-out rows come from eval_data"),
    ]
    return _said(settings, rules)


def unused_for_run(settings: RunSettings, held_out: int, *, on_gpu: bool) -> list[str]:
    """Options of training and reports without effect; ``held_out`` counts the held-out rows."""
    nothing_held = held_out == 0
    kept = settings.save_steps is not None or settings.evaluation_decides
    resumed = settings.resume or settings.resume_from_checkpoint
    limited = settings.max_steps is not None
    rules = [
        ("max_eval_samples", nothing_held, "no rows are held out"),
        ("eval_steps", nothing_held, "no rows are held out"),
        ("save_total_limit", not kept, "no checkpoints are kept without save_steps"),
        ("num_train_epochs", limited, f"max_steps {settings.max_steps} decides"),
        ("hub_model_id", not settings.push_to_hub, "nothing is uploaded without push_to_hub"),
        ("resume_inexact", not resumed, "no run is continued"),
        ("use_liger_kernel", not on_gpu, "there is no GPU to use it on"),
        ("use_liger_kernel", not settings.speedup, "it is part of the fast step (speedup)"),
        ("use_rslora", settings.r == 1 and not settings.rank_pattern, "with r 1 it is the same"),
    ]
    return _said(settings, rules)


def unused_in_steps(settings: RunSettings, pace: Pace, held_out: int) -> list[str]:
    """Options that would take effect after more steps than there are."""
    steps = f"there are only {pace.max_steps} steps"
    asked, saves = settings.eval_steps, settings.save_steps
    too_few = bool(asked and asked >= pace.max_steps and held_out)
    measured = (pace.max_steps - 1) // pace.eval_steps if pace.eval_steps else 0
    patience = settings.early_stopping_patience
    endless = patience is not None and measured <= patience
    rules = [
        ("eval_steps", too_few, f"{steps}, and after the last the loss is measured anyway"),
        ("save_steps", bool(saves and saves > pace.max_steps), steps),
        ("early_stopping_patience", endless, f"the loss is measured {measured} times on the way"),
    ]
    return _said(settings, rules)


def _said(settings: RunSettings, rules: Iterable[tuple[str, bool, str]]) -> list[str]:
    found: dict[str, str] = {}
    for name, idle, reason in rules:
        value = getattr(settings, name)
        if idle and value != RunSettings.model_fields[name].default:
            shown = ",".join(value) if isinstance(value, list) else f"{value}"
            found.setdefault(name, f"{name} {shown} does nothing: {reason}")
    return list(found.values())


def _is_file(item: str) -> bool:
    return Path(item).expanduser().is_file()


def _is_on_hub(item: str) -> bool:
    path = Path(item).expanduser()
    return item != STANDARD_INPUT and not path.exists() and not glob.has_magic(item)


def _others(settings: RunSettings) -> bool:
    """Whether files are named in another way than one by one: a folder, a pattern, a pipe."""
    return any(not _is_file(item) and not _is_on_hub(item) for item in settings.data)
