"""Checkpoints: everything needed to continue a run, complete or absent.

    checkpoint-N/
      adapter_config.json  adapter_model.safetensors   the adapter, loadable like any other
      trainer_state.safetensors                        optimizer moments, float32 copies, random
                                                       states, the last good weights
      trainer_state.json                               step, schedule, watch, identity, checksums

All files are safetensors or JSON: loading a checkpoint never runs code. A checkpoint is written
under a temporary name, synced and renamed, and its checksums are verified whenever it is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from lorita.errors import OutputError, UserError
from lorita.models.adapter import save_adapter, set_adapter_tensors
from lorita.models.adapter_files import WEIGHTS_FILE
from lorita.storage.files import new_part, remove, sync_folder, write_atomic
from lorita.storage.manifest import claim, remove_folder, set_aside
from lorita.storage.reading import checked, one_message, parse_json, read_text
from lorita.training.random_state import random_states, restore_random_states
from lorita.training.same_run import compare_runs

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from lorita.training.loss_watch import Watch
    from lorita.training.step import Trainee

TENSORS_FILE = "trainer_state.safetensors"
STATE_FILE = "trainer_state.json"
UNASKED = "until-recorded"
FORMAT = 2


def _has_all_files(checksums: dict[str, str]) -> dict[str, str]:
    missing = {WEIGHTS_FILE, TENSORS_FILE} - checksums.keys()
    if missing:
        raise ValueError(f"{sorted(missing)[0]} has no checksum")
    return checksums


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


def save_checkpoint(
    run: Path,
    step: int,
    model: PeftModel,
    trainee: Trainee,
    watch: Watch,
    *,
    keep: int,
    identity: Mapping[str, Any],
    conditions: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``checkpoint-N`` into the run folder and return its path.

    Older checkpoints are removed, except for the newest ``keep`` and the best one. ``identity``
    (data, model, settings) must be the same in a run that continues from this checkpoint, and
    ``conditions`` (machine, versions) should be.
    """
    from safetensors.torch import save

    final = run / f"checkpoint-{step}"
    if _is_whole(final):  # after a resume, a run reaches the same state again
        return final
    run.mkdir(parents=True, exist_ok=True)
    part = new_part(final)
    temporary = part / final.name
    try:
        temporary.mkdir()
        save_adapter(model, temporary)
        write_atomic(temporary / TENSORS_FILE, save(_state_tensors(trainee, watch)))
        state = {
            "format": FORMAT,
            "step": step,
            "schedule": trainee.schedule.state_dict(),
            "token_budget": trainee.token_budget,
            "watch": watch.state_dict(),
            "identity": dict(identity),
            "conditions": dict(conditions or {}),
            "sha256": {file.name: _checksum(file) for file in sorted(temporary.iterdir())},
        }
        write_atomic(temporary / STATE_FILE, _sealed(state))
        sync_folder(temporary)
        if os.path.lexists(final) and not remove_folder(run, final.name):
            set_aside(final)
        claim(run, [f"{final.name}/{file.name}" for file in temporary.iterdir()])
        temporary.replace(final)
        sync_folder(run)
    finally:
        remove(part)
    _remove_old(run, keep, {run / f"checkpoint-{watch.best[0]}"} if watch.keep_best else ())
    return final


def _remove_old(run: Path, keep: int, spared: Collection[Path]) -> None:
    for old in list_checkpoints(run)[:-keep]:
        if old not in spared:
            remove_folder(run, old.name)


def keep_until_recorded(folder: Path) -> None:
    """Mark a checkpoint that nobody asked for: ``remove_unasked`` removes it."""
    claim(folder.parent, [f"{folder.name}/{UNASKED}"])
    write_atomic(folder / UNASKED, "")


def remove_unasked(run: Path) -> None:
    """Remove the checkpoint that was kept until the run had its record."""
    for folder in list_checkpoints(run):
        if (folder / UNASKED).exists():
            remove_folder(run, folder.name)


def list_checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    found = [p for p in run.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", p.name)]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))


def find_checkpoint(
    run: Path,
    wanted: str,
    identity: Mapping[str, Any],
    conditions: Mapping[str, Any] | None = None,
    *,
    inexact: bool = False,
) -> tuple[Path, dict[str, Any], list[str]]:
    """The checkpoint to continue from, its state, and warnings.

    ``wanted`` is ``last`` or a path. With ``last``, damaged checkpoints are passed over with a
    warning; one that is named must be intact. Raises ``OutputError`` if no checkpoint is usable, if
    its ``identity`` is that of another run, or if its ``conditions`` are others and the run is not
    allowed to be ``inexact``.
    """
    last = wanted == "last"
    candidates = list_checkpoints(run)[::-1] if last else [Path(wanted).expanduser()]
    damaged: list[str] = []
    for folder in candidates:
        try:
            state = read_state(folder)
        except (OSError, ValueError) as error:
            damaged.append(f"{folder}: {error}")
            continue
        warnings = [f"Skipped: {line}" for line in damaged]
        return (
            folder,
            state,
            warnings + compare_runs(folder, state, identity, conditions, inexact=inexact),
        )
    if damaged:
        others = list_checkpoints(run) if not last else []
        hint = "Continue from the newest intact checkpoint with --resume." if others else ""
        raise OutputError(
            damaged,
            hint=hint or "No usable checkpoint is left: start again with --overwrite.",
        )
    raise OutputError(f"{run}: no checkpoint to continue from")


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
    if _sealed(state) != text:
        raise ValueError(f"{STATE_FILE} is damaged")
    try:
        checked(state, State, STATE_FILE)
    except UserError as error:
        raise ValueError(error.problems[0]) from None
    for name, expected in state["sha256"].items():
        if not (folder / name).is_file():
            raise ValueError(f"{name} is missing")
        if _checksum(folder / name) != expected:
            raise ValueError(f"{name} is damaged")
    return state


def _is_whole(folder: Path) -> bool:
    try:
        return bool(read_state(folder))
    except (OSError, ValueError):
        return False


def _sealed(state: Mapping[str, Any]) -> str:
    """The state as JSON that includes its own checksum."""
    plain = json.loads(json.dumps(state, default=str))
    seal = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    return json.dumps({**plain, "seal": seal}, indent=2) + "\n"


def restore(
    folder: Path, state: Mapping[str, Any], model: PeftModel, trainee: Trainee, watch: Watch
) -> int:
    """Load a checkpoint into everything that training changes; returns its step."""
    with one_message(f"{folder}: the checkpoint does not fit this run", OutputError):
        return _restored(folder, state, model, trainee, watch)


def _restored(
    folder: Path, state: Mapping[str, Any], model: PeftModel, trainee: Trainee, watch: Watch
) -> int:
    from safetensors.torch import load_file

    set_adapter_tensors(model, load_file(folder / WEIGHTS_FILE))
    tensors = load_file(folder / TENSORS_FILE)
    for name, parameter in trainee.masters.parameters.items():
        moments = {}
        for full, tensor in tensors.items():
            kind, _, rest = full.partition("/")
            key, _, owner = rest.partition("/")
            if kind == "optimizer" and owner == name:
                moments[key] = tensor.to(parameter.device)
        if moments:
            trainee.optimizer.state[parameter] = moments
        if f"master/{name}" in tensors:
            parameter.data.copy_(tensors[f"master/{name}"])
    trainee.schedule.load_state_dict(dict(state["schedule"]))
    for group, rate in zip(
        trainee.optimizer.param_groups, trainee.schedule.get_last_lr(), strict=True
    ):
        group["lr"] = rate
    trainee.token_budget = state["token_budget"]
    watch.load_state_dict(state["watch"])
    watch.good = _under("good/", tensors)
    restore_random_states(_under("random/", tensors))
    return int(state["step"])


def restore_weights(folder: Path, model: PeftModel) -> None:
    """Load only the adapter of a checkpoint; ``OSError`` or ``ValueError`` if it is not intact."""
    from safetensors.torch import load_file

    read_state(folder)
    set_adapter_tensors(model, load_file(folder / WEIGHTS_FILE))


def _under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _state_tensors(trainee: Trainee, watch: Watch) -> dict[str, torch.Tensor]:
    """Random states, and for each parameter its optimizer moments, float32 copy and good weights.

    The names say which: ``random/…``, ``optimizer/KEY/PARAMETER``, ``master/…`` and ``good/…``.
    """
    tensors = {f"random/{name}": state for name, state in random_states().items()}
    state: dict[Any, dict[str, Any]] = trainee.optimizer.state
    for name, parameter in trainee.masters.parameters.items():
        for key, value in state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = value.detach().cpu().contiguous()
    for name, master in trainee.masters.copies.items():
        tensors[f"master/{name}"] = master.detach().cpu().contiguous()
    for name, tensor in watch.good.items():
        tensors[f"good/{name}"] = tensor.cpu().contiguous()
    return tensors
