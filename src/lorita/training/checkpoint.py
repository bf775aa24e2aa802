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

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.errors import OutputError
from lorita.models.adapter import save_adapter, set_adapter_tensors
from lorita.models.adapter_files import WEIGHTS_FILE
from lorita.storage.disk import remove, sync
from lorita.storage.files import new_part, write_atomic
from lorita.storage.manifest import claim, remove_folder, set_aside
from lorita.storage.reading import one_message
from lorita.storage.run_folder import list_checkpoints as list_checkpoints
from lorita.training.checkpoint_state import (
    FORMAT,
    STATE_FILE,
    TENSORS_FILE,
    checksum,
    is_whole,
    read_state,
    sealed,
)
from lorita.training.deadline import shorten
from lorita.training.random_state import random_states, restore_random_states
from lorita.training.same_run import compare_runs

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from lorita.training.loss_watch import Watch
    from lorita.training.step import Trainee

UNASKED = "until-recorded"


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
    if is_whole(final):  # after a resume, a run reaches the same state again
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
            "shortened": trainee.shortened,
            "watch": watch.state_dict(),
            "identity": dict(identity),
            "conditions": dict(conditions or {}),
            "sha256": {file.name: checksum(file) for file in sorted(temporary.iterdir())},
        }
        write_atomic(temporary / STATE_FILE, sealed(state))
        sync(temporary)
        if os.path.lexists(final) and not remove_folder(run, final.name):
            set_aside(final)
        claim(run, [f"{final.name}/{file.name}" for file in temporary.iterdir()])
        temporary.replace(final)
        sync(run)
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
    for after, planned, last in state.get("shortened", []):
        shorten(trainee, after, planned, last)
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
