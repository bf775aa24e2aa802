"""The folder of a run or a sweep: where it may be created, who may write to it, and its files."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from lorita.errors import OutputError
from lorita.storage.files import check_parent, make_folders, remove_empty, remove_parts
from lorita.storage.locks import LOCK_FILE, hold, require_free
from lorita.storage.manifest import (
    MANIFEST,
    RUN,
    SWEEP,
    Manifest,
    existing,
    named,
    read_manifest,
    remove_listed,
    strangers,
)

SETTINGS_FILE = "run.yaml"
LOG_FILE = "log.jsonl"
RECORD_FILE = "lorita.json"
CARD_FILE = "README.md"
SWEEP_FILE = "sweep.json"
REPORT_FILE = "report.html"
LOSS_FILE = "loss.svg"
LOSS_PICTURE = "loss.png"
_MARKS = (SETTINGS_FILE, RECORD_FILE, "adapter_config.json")
_RUN_FILES = (
    *_MARKS, LOG_FILE, CARD_FILE, "adapter_model.safetensors", "compare.json", "compare.md",
)  # fmt: skip
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model",
)  # fmt: skip
_CHECKPOINT_FILES = (
    "adapter_config.json", "adapter_model.safetensors", "trainer_state.safetensors",
    "trainer_state.json",
)  # fmt: skip
_MOST = 10_000_000
"""Characters that are read to recognise a file."""
_ELSEWHERE = "Choose another --output-dir."
_WAIT = "Wait for it to end, or choose another --output-dir."


def check_output_dir(folder: Path, *, overwrite: bool) -> None:
    """``OutputError`` unless a new run can be written there. Nothing is created."""
    _check_place(folder)
    _check_content(folder, overwrite=overwrite)


def check_resumable(folder: Path) -> None:
    """``OutputError`` unless the run in the folder can be continued there. Nothing is created."""
    _check_place(folder)
    known = _known(folder)
    if known is not None and known.kind != RUN:
        raise OutputError(f"{folder}: holds a {known.kind}, not a run", hint=_ELSEWHERE)
    if (folder / LOG_FILE).is_symlink():
        raise OutputError(f"{folder / LOG_FILE}: a symbolic link, so nothing is written there")
    others = strangers(folder, known)
    in_the_way = [name for name in others if name.rstrip("/") in _RUN_FILES]
    if in_the_way:
        raise OutputError(
            f"{folder}: lorita would write over what it did not write: {named(in_the_way)}",
            hint="Move it elsewhere, then continue.",
        )


def check_sweep_dir(folder: Path) -> None:
    """``OutputError`` unless a sweep can be started or continued there. Nothing is created."""
    _check_place(folder)
    _check_sweep(folder)


def is_run(folder: Path) -> bool:
    """Whether the folder contains a run, finished or not."""
    return any((folder / mark).exists() for mark in _MARKS)


@contextmanager
def open_run_dir(
    folder: Path, *, continues: bool, overwrite: bool, keep_checkpoints: bool = False
) -> Iterator[None]:
    """Be the only writer of a run's folder while the block runs.

    The folder is created, and an earlier run's files are removed from it unless the run
    ``continues``. ``OutputError`` if somebody else writes there or something of somebody else is
    there.
    """
    with ExitStack() as stack:
        with _trouble_said(folder):
            stack.enter_context(_only_writer(folder))
            if not continues:
                _check_content(folder, overwrite=overwrite)
            known = _known(folder) or Manifest(RUN, frozenset())
            if not continues:
                known = _emptied(folder, known, keep_checkpoints=keep_checkpoints)
            known.save(folder)
        yield


def _emptied(folder: Path, known: Manifest, *, keep_checkpoints: bool) -> Manifest:
    """Remove the files of an earlier run; returns what is kept."""
    kept = {f for f in known.files if keep_checkpoints and f.startswith("checkpoint-")}
    # The record goes first: what is left of a removal that was killed is no finished run.
    remove_listed(folder, known.files & {RECORD_FILE})
    remove_listed(folder, known.files - kept)
    return Manifest(RUN, frozenset(kept))


def remove_run(folder: Path) -> None:
    """Delete a run; what lorita did not write stays. ``OutputError`` if somebody writes there."""
    if not folder.is_dir():
        return
    with _trouble_said(folder), _only_writer(folder):
        known = _known(folder)
        if known is not None and known.kind == RUN:
            _emptied(folder, known, keep_checkpoints=False)
    with suppress(OSError):
        folder.rmdir()


@contextmanager
def open_sweep_dir(folder: Path) -> Iterator[None]:
    """Be the only writer of a sweep's folder while the block runs; its runs have their own."""
    with ExitStack() as stack:
        with _trouble_said(folder):
            stack.enter_context(_only_writer(folder))
            _check_sweep(folder)
            (_known(folder) or Manifest(SWEEP, frozenset())).save(folder)
        yield


@contextmanager
def _trouble_said(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{folder}: cannot be prepared ({error.strerror or error})") from None


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """The folder, locked, without leftovers of killed processes. If nothing is written, it goes."""
    made = make_folders(folder)
    try:
        with hold(folder / LOCK_FILE, folder, advice=_WAIT):
            remove_parts(folder)
            try:
                yield
            finally:
                with suppress(OSError):
                    if {path.name for path in folder.iterdir()} <= {MANIFEST, LOCK_FILE}:
                        (folder / MANIFEST).unlink(missing_ok=True)
    finally:
        remove_empty(made)


def _check_place(folder: Path) -> None:
    if os.path.lexists(folder) and not folder.is_dir():
        raise OutputError(f"{folder}: this is a file; a run needs a folder (--output-dir)")
    if folder.is_dir():
        require_free(folder / LOCK_FILE, folder, advice=_WAIT)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"{folder}: not writable")
    else:
        check_parent(folder)


def _check_content(folder: Path, *, overwrite: bool) -> None:
    known = _known(folder)
    others = strangers(folder, known)
    if known is not None and known.kind != RUN:
        raise OutputError(f"{folder}: holds a {known.kind}, not a run", hint=_ELSEWHERE)
    if known is not None and existing(folder, known) and not overwrite:
        raise _occupied(folder, others)
    if others:
        also = " --overwrite removes only what lorita wrote." if overwrite else ""
        raise _not_own(folder, others, also)


def _occupied(folder: Path, others: list[str]) -> OutputError:
    """A run is there already. What would be lost by replacing it is named first."""
    ways = f"{_ELSEWHERE[:-1]}, or replace it with --overwrite"
    saved = list_checkpoints(folder)
    if (folder / RECORD_FILE).exists():
        found, hint = "a run", f"{ways}."
    elif saved:
        found = f"a run that did not finish ({saved[-1].name})"
        hint = f"Continue it: {resume_command(folder)}\nOr begin again: {ways[0].lower()}{ways[1:]}"
        hint += ", which deletes its checkpoints."
    else:
        found, hint = "a run that did not get as far as a checkpoint", f"{ways}."
    if others:
        hint += (
            f" Before --overwrite, move elsewhere what lorita did not write there: {named(others)}"
        )
    return OutputError(f"{folder}: already holds {found}", hint=hint)


def list_checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    found = [p for p in run.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", p.name)]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))


def resume_command(folder: Path) -> str:
    """The command that continues the run in ``folder``."""
    return f"lorita train {shlex.quote(str(folder))} --resume"


def _check_sweep(folder: Path) -> None:
    known = _known(folder)
    if known is not None and known.kind != SWEEP:
        raise OutputError(f"{folder}: holds a {known.kind}, not a sweep", hint=_ELSEWHERE)
    others = strangers(folder, None)
    if known is None and others:
        raise _not_own(folder, others)


def _not_own(folder: Path, others: list[str], also: str = "") -> OutputError:
    return OutputError(
        f"{folder}: lorita needs a folder of its own, and did not write what is in this one: "
        f"{named(others)}",
        hint=f"{_ELSEWHERE[:-1]}, or move these elsewhere.{also}",
    )


def _known(folder: Path) -> Manifest | None:
    """What lorita wrote in a folder, also where its version did not keep a list yet."""
    return read_manifest(folder) or _earlier_run(folder) or _earlier_sweep(folder)


def _earlier_run(folder: Path) -> Manifest | None:
    """The files of a run without a list: known names beside a record or a log."""
    record = _json(folder / RECORD_FILE)
    has_record = record is not None and {"base", "prompt_format", "figures"} <= record.keys()
    log = _json(folder / LOG_FILE, lines=True) if (folder / SETTINGS_FILE).is_file() else None
    if not has_record and (log is None or "event" not in log):
        return None
    names = [*_RUN_FILES, *_TOKENIZER_FILES]
    for path in folder.glob("checkpoint-*"):
        if re.fullmatch(r"checkpoint-\d+", path.name) and not path.is_symlink():
            names += [f"{path.name}/{name}" for name in _CHECKPOINT_FILES]
    return Manifest(RUN, frozenset(name for name in names if (folder / name).is_file()))


def _earlier_sweep(folder: Path) -> Manifest | None:
    values = _json(folder / SWEEP_FILE)
    if values is None or not {"best", "runs"} <= values.keys():
        return None
    return Manifest(SWEEP, frozenset({SWEEP_FILE}))


def _json(path: Path, *, lines: bool = False) -> dict[str, Any] | None:
    """The object in a file, or in its first line; None if there is none."""
    try:
        with path.open(encoding="utf-8") as file:
            values = json.loads(file.readline(_MOST) if lines else file.read(_MOST))
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None
