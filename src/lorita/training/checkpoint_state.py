"""``trainer_state.json`` of a checkpoint: what it must hold, its seal, the checksums of all files.

It is read like a file of somebody else: a schema, a seal over the text and a checksum of each file
say whether the checkpoint is intact.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from lorita.errors import UserError
from lorita.models.adapter_files import WEIGHTS_FILE
from lorita.storage.reading import checked, parse_json, read_text

TENSORS_FILE = "trainer_state.safetensors"
STATE_FILE = "trainer_state.json"
FORMAT = 2


def _has_all_files(checksums: dict[str, str]) -> dict[str, str]:
    missing = {WEIGHTS_FILE, TENSORS_FILE} - checksums.keys()
    if missing:
        raise ValueError(f"{sorted(missing)[0]} has no checksum")
    return checksums


def _in_order(steps: tuple[int, int, int]) -> tuple[int, int, int]:
    after, planned, last = steps
    if not 0 <= after < last < planned:
        raise ValueError("a shortened training ends after its last step and before the planned one")
    return steps


_Shortened = Annotated[tuple[int, int, int], AfterValidator(_in_order)]


@dataclass(frozen=True)
class State:
    """What ``trainer_state.json`` must hold; ``sha256`` has the checksum of each other file."""

    step: Annotated[int, Field(ge=0, lt=2**53)]
    schedule: dict[str, Any]
    token_budget: Annotated[int, Field(ge=1)] | None
    watch: dict[str, Any]
    identity: dict[str, Any]
    sha256: Annotated[
        dict[Annotated[str, Field(pattern=r"^[\w.-]+$")], str], AfterValidator(_has_all_files)
    ]
    shortened: list[_Shortened] = field(default_factory=list)


def read_state(folder: Path) -> dict[str, Any]:
    """The contents of ``trainer_state.json``, after verifying all checksums of the checkpoint.

    Raises ``OSError`` or ``ValueError``, which say what is wrong, if the checkpoint is not intact.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        raise ValueError(f"{STATE_FILE} is missing" if folder.is_dir() else "no such checkpoint")
    try:
        text = read_text(path)
        state = parse_json(text)
    except (UserError, ValueError):
        state = None
    if not isinstance(state, dict):
        raise ValueError(f"{STATE_FILE} is damaged")
    if state.get("format") != FORMAT:
        raise ValueError(
            f"written by another version of lorita (format {state.get('format')}; this version "
            f"reads {FORMAT})"
        )
    state.pop("seal", None)
    if sealed(state) != text:
        raise ValueError(f"{STATE_FILE} is damaged")
    try:
        checked(state, State, STATE_FILE)
    except UserError as error:
        raise ValueError(error.problems[0]) from None
    for name, expected in state["sha256"].items():
        if not (folder / name).is_file():
            raise ValueError(f"{name} is missing")
        if checksum(folder / name) != expected:
            raise ValueError(f"{name} is damaged")
    return state


def is_whole(folder: Path) -> bool:
    """Whether there is an intact checkpoint in the folder."""
    try:
        return bool(read_state(folder))
    except (OSError, ValueError):
        return False


def sealed(state: Mapping[str, Any]) -> str:
    """The state as JSON that includes its own checksum."""
    plain = json.loads(json.dumps(state, default=str))
    seal = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    return json.dumps({**plain, "seal": seal}, indent=2) + "\n"


def checksum(file: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
