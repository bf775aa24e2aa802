"""The run folder: where it may be made, what lies in it, and how it is read again.

``lorita.json`` is written last and marks a run that came to its end.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorita.errors import OutputError, UserError
from lorita.storage.files import remove_parts, write_atomic

SETTINGS_FILE = "run.yaml"
LOG_FILE = "log.jsonl"
RECORD_FILE = "lorita.json"
CARD_FILE = "README.md"
FORMAT = 1
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
        raise OutputError(f"{folder}: {parent} is a file, so no folder can be made in it")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: {parent} is not writable")


def check_resumable(folder: Path) -> None:
    """``OutputError`` unless the run in the folder can be continued there."""
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: is not writable")


def is_run(folder: Path) -> bool:
    """Whether something of a run lies in the folder, an unfinished one included."""
    return any((folder / mark).exists() for mark in _MARKS)


def create_run_dir(folder: Path, *, keep_checkpoints: bool = False) -> None:
    """Make the folder, and take an earlier run out of it; files that are not a run's stay."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_parts(folder)
        for checkpoint in [] if keep_checkpoints else folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        for name in (*_MARKS, LOG_FILE, CARD_FILE, "adapter_model.safetensors", "compare.json"):
            (folder / name).unlink(missing_ok=True)
        (folder / "compare.md").unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ready ({error.strerror})") from None


@dataclass(frozen=True)
class RunRecord:
    """``lorita.json``: what is needed to use the adapter, and what it was made with."""

    base: dict[str, Any]
    prompt_format: dict[str, Any]
    stop_tokens: list[str]
    data: dict[str, Any]
    figures: dict[str, Any]
    checks: list[dict[str, Any]]
    versions: dict[str, str]
    machine: dict[str, Any]
    seed: int | None = None
    format: int = FORMAT

    def save(self, folder: Path) -> None:
        text = json.dumps(vars(self), indent=2, ensure_ascii=False)
        write_atomic(folder / RECORD_FILE, text + "\n")


def read_record(folder: Path) -> RunRecord | None:
    """The record of a run; None for a plain PEFT folder, ``UserError`` for a damaged record."""
    path = folder / RECORD_FILE
    if not path.exists():
        return None
    try:
        record = RunRecord(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error})") from None
    if record.format > FORMAT:
        raise UserError(f"{path}: written by a newer lorita (format {record.format})")
    return record


def versions() -> dict[str, str]:
    """Versions of everything that has a part in the result."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for package in (
        "lorita", "torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors",
        "datasets",
    ):  # fmt: skip
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def machine() -> dict[str, Any]:
    """What the run was made on; another processor rounds otherwise."""
    import torch

    found = {"platform": platform.platform(), "architecture": platform.machine()}
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        found["processor"] = names[0] if names else platform.processor()
    except OSError:
        found["processor"] = platform.processor()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {**found, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpu": device}


def last_logged(folder: Path, event: str, key: str) -> float:
    """A figure of the last such event in the log: a resumed run may have had no step to do."""
    lines = (folder / LOG_FILE).read_text(encoding="utf-8").splitlines()
    found = (json.loads(line) for line in reversed(lines) if f'"{event}"' in line)
    return float(next(found)[key])


def last_loss(folder: Path) -> float:
    """The training loss of the last step."""
    return last_logged(folder, "StepDone", "loss")


def append_log(folder: Path, record: dict[str, Any]) -> None:
    """One event, one line of ``log.jsonl``."""
    if record["event"] == "TrainingStarted":
        _rewind_log(folder, record["first_step"])
    with (folder / LOG_FILE).open("a", encoding="utf-8") as log:
        log.write(json.dumps(record, ensure_ascii=False) + "\n")


def _rewind_log(folder: Path, step: int) -> None:
    """Take out what a run that goes back to ``step`` will do again, and torn lines."""
    path = folder / LOG_FILE
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if event.get("step", 0) <= step and event["event"] != "TrainingEnded":
            kept.append(line + "\n")
    write_atomic(path, "".join(kept))
