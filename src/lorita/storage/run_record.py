"""``lorita.json``: what is needed to use an adapter, and what it was made with.

It is written last, so it marks a run that came to its end.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from typing_extensions import Required, TypedDict

from lorita.errors import UserError
from lorita.storage.files import write_atomic
from lorita.storage.reading import checked, read_object
from lorita.storage.run_folder import RECORD_FILE

FORMAT = 1


def _is_fingerprint(values: dict[str, Any]) -> dict[str, Any]:
    """The parts of a fingerprint that all versions of lorita have written must be there."""
    sample = values.get("sample")
    if not isinstance(values.get("config"), dict) or not isinstance(sample, list):
        raise ValueError("a fingerprint has the objects config and sample")
    if not all(isinstance(value, (int, float)) for value in sample):
        raise ValueError("the sample of a fingerprint is a list of numbers")
    return values


@dataclass(frozen=True)
class BaseRecord:
    """The base model. ``reference`` is its hub id or absolute path, ``dtype`` torch's name of the
    number format it was trained in, ``fingerprint`` what ``models.fingerprint`` took of it.
    ``precision`` is the form in which its weights were held, if they stayed or were quantised."""

    name: str
    reference: str
    revision: str | None
    trust_remote_code: bool
    dtype: str
    fingerprint: Annotated[dict[str, Any], AfterValidator(_is_fingerprint)] | None = None
    precision: Literal["native", "q8", "q4"] | None = None


class PromptRecord(TypedDict, total=False):
    """The form of prompts and answers, as ``data.tokens.prompt_format`` writes and reads it."""

    kind: Required[Literal["text", "pair", "chat"]]
    control_tokens: Literal["text", "tokens"]
    repetition_penalty: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    tools_template: str
    tools: list[Any]
    chat_template: Required[str | None]
    template_name: str
    system: str | None
    end_of_turn: str | None


@dataclass(frozen=True)
class RowLengths:
    """The number of training rows with ``start`` to ``end`` tokens."""

    start: int
    end: int
    rows: int


@dataclass(frozen=True)
class DataRecord:
    """The rows: where they came from, how many there were, and a hash of the training rows.

    ``lengths`` are those of the training rows in tokens; runs of earlier versions have none.
    """

    origin: list[str]
    fingerprint: str
    train_rows: int
    held_out_rows: int
    lengths: list[RowLengths] | None = None


@dataclass(frozen=True, kw_only=True)
class FiguresRecord:
    """Losses in nats per token; those of held-out rows are None where none were held out.

    After ``steps`` steps, the adapter of ``kept_step`` was kept; None: that of the last one.
    ``run_seconds`` is the whole run, ``peak_memory`` the most bytes that its process used; both
    are missing in runs of earlier versions.
    """

    final_training_loss: float
    training_seconds: float | None = None
    held_out_loss_base: float | None
    held_out_loss_tuned: float | None
    trainable_parameters: str
    steps: int | None = None
    kept_step: int | None = None
    run_seconds: float | None = None
    peak_memory: int | None = None


@dataclass(frozen=True)
class Check:
    """One thing that was checked at the end of a run, and what was found."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True)
class MachineRecord:
    """What the run was made on; another processor rounds differently."""

    platform: str
    architecture: str
    processor: str
    cores: int | None
    threads: int
    gpu: str | None


@dataclass(frozen=True)
class RunRecord:
    """The content of ``lorita.json``; ``versions`` are those of the packages that took part."""

    base: BaseRecord
    prompt_format: PromptRecord
    stop_tokens: list[str]
    data: DataRecord
    figures: FiguresRecord
    checks: list[Check]
    versions: dict[str, str]
    machine: MachineRecord
    seed: int | None = None
    format: int = FORMAT

    def save(self, folder: Path) -> None:
        """Write ``lorita.json`` into the run folder, complete or not at all."""
        write_atomic(folder / RECORD_FILE, self.to_json())

    def to_json(self) -> str:
        """The text of ``lorita.json``."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


def read_record(folder: Path) -> RunRecord | None:
    """The record of a run; None for a plain PEFT folder, ``UserError`` for a damaged record."""
    path = folder / RECORD_FILE
    if not path.exists():
        return None
    hint = "This record of a run is damaged. Without it, the adapter can be used like any other."
    values = read_object(path, None, UserError, hint=hint)
    written = values.get("format", FORMAT)
    if isinstance(written, int) and written > FORMAT:
        raise UserError(f"{path}: written by a newer lorita (format {written})")
    return checked(values, RunRecord, str(path), UserError, hint=hint)


def versions() -> dict[str, str]:
    """Versions of everything that has a part in the result, by package."""
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


def machine() -> MachineRecord:
    """This machine, as a record of a run made on it."""
    import torch

    return MachineRecord(
        platform=platform.platform(),
        architecture=platform.machine(),
        processor=_processor(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
