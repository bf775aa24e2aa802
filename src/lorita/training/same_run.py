"""Whether a run may continue from a checkpoint: it must be the same run, on the same machine unless
the user allows another result."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorita.errors import OutputError


def compare_runs(
    folder: Path,
    state: Mapping[str, Any],
    identity: Mapping[str, Any],
    conditions: Mapping[str, Any] | None,
    *,
    inexact: bool,
) -> list[str]:
    """Warnings on what will make the result another one; ``OutputError`` for what may not be."""
    then = state["identity"]
    if "conditions" not in state:  # earlier versions recorded less
        missing = sorted(identity.keys() - then.keys())
        identity = {name: value for name, value in identity.items() if name in then}
        _refuse(folder, _differences({n: then[n] for n in identity}, identity), _ANOTHER_RUN)
        return [
            f"{folder}: an earlier lorita wrote this checkpoint without {', '.join(missing)} and "
            "the machine, so these cannot be compared"
        ]
    _refuse(folder, _differences(then, identity), _ANOTHER_RUN)
    different = _differences(state["conditions"], conditions or state["conditions"])
    if not inexact:
        _refuse(folder, different, _INEXACT)
    return [f"{line}: the result will differ in its last digits" for line in different]


_ANOTHER_RUN = (
    "A run can only continue with the data, model and settings it started with. Undo the change, "
    "or start a new run in another folder."
)
_INEXACT = (
    "The run can go on, but will not end with the bytes of one that was never stopped. Undo the "
    "change, or continue all the same with --resume-inexact."
)


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    now = json.loads(json.dumps(now, default=str))
    return [
        _difference(name, then.get(name), now.get(name))
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]


def _difference(name: str, then: Any, now: Any) -> str:
    if all(isinstance(value, str) and re.fullmatch(_HASH, value) for value in (then, now)):
        return f"{name}: not the same as then"
    return f"{name} was {_short(then)}, is now {_short(now)}"


_HASH = "[0-9a-f]{64}"


def _short(value: Any) -> str:
    return re.sub(_HASH, lambda found: found.group()[:8], repr(value))


def _refuse(folder: Path, differences: list[str], hint: str) -> None:
    if differences:
        raise OutputError([f"{folder.name}: {line}" for line in differences], hint=hint)
