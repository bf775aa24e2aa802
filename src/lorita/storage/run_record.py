"""``lorita.json``: what is needed to use the adapter, and what it was made with."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorita.errors import UserError
from lorita.storage.files import write_atomic
from lorita.storage.run_folder import RECORD_FILE

FORMAT = 1


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
