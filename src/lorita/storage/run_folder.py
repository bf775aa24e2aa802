"""The run folder: where it may be created, and the names of its files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lorita.errors import OutputError
from lorita.storage.files import remove_parts

SETTINGS_FILE = "run.yaml"
LOG_FILE = "log.jsonl"
RECORD_FILE = "lorita.json"
CARD_FILE = "README.md"
_MARKS = (SETTINGS_FILE, RECORD_FILE, "adapter_config.json")


def check_output_dir(folder: Path, *, overwrite: bool) -> None:
    """``OutputError`` unless a run can be written there. Nothing is created."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: this is a file; a run needs a folder (--output-dir)")
    if is_run(folder) and not overwrite:
        raise OutputError(
            f"{folder}: already holds a run",
            hint="Choose another --output-dir, or replace it with --overwrite.",
        )
    parent = folder if folder.exists() else next(p for p in folder.absolute().parents if p.exists())
    if not parent.is_dir():
        raise OutputError(f"{folder}: {parent} is a file, so no folder can be created in it")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: {parent} is not writable")


def check_resumable(folder: Path) -> None:
    """``OutputError`` unless the run in the folder can be continued there."""
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: not writable")


def is_run(folder: Path) -> bool:
    """Whether the folder contains a run, finished or not."""
    return any((folder / mark).exists() for mark in _MARKS)


def create_run_dir(folder: Path, *, keep_checkpoints: bool = False) -> None:
    """Create the folder and remove an earlier run from it; other files stay."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_parts(folder)
        for checkpoint in [] if keep_checkpoints else folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        for name in (*_MARKS, LOG_FILE, CARD_FILE, "adapter_model.safetensors", "compare.json"):
            (folder / name).unlink(missing_ok=True)
        (folder / "compare.md").unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be prepared ({error.strerror})") from None
