"""Checkpoints: everything that continues a run, complete or not there at all.

    checkpoint-N/
      adapter_config.json  adapter_model.safetensors   the adapter, loadable like any other
      trainer_state.safetensors                        optimizer moments, copies, random state
      trainer_state.json                               step, schedule, identity, checksums

Only safetensors and JSON; a checkpoint never runs code. It is written under a temporary name,
synced and renamed, and checked against its checksums when it is read.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.adapter import WEIGHTS_FILE, save_adapter, set_adapter_tensors
from lorita.errors import OutputError
from lorita.files import sync_folder, write_atomic

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from lorita.training.loop import Trainee

TENSORS_FILE = "trainer_state.safetensors"
STATE_FILE = "trainer_state.json"
FORMAT = 1


def save_checkpoint(
    run: Path,
    step: int,
    model: PeftModel,
    trainee: Trainee,
    *,
    keep: int,
    identity: Mapping[str, Any],
) -> Path:
    """Write ``checkpoint-N`` into the run folder and remove all but the newest ``keep``.

    ``identity`` is what must be the same for a run that continues it: data, model, settings.
    """
    from safetensors.torch import save

    final = run / f"checkpoint-{step}"
    temporary = run / f".checkpoint-{step}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        save_adapter(model, temporary)
        write_atomic(temporary / TENSORS_FILE, save(_state_tensors(trainee)))
        state = {
            "format": FORMAT,
            "step": step,
            "schedule": trainee.schedule.state_dict(),
            "identity": dict(identity),
            "sha256": {file.name: _checksum(file) for file in sorted(temporary.iterdir())},
        }
        write_atomic(temporary / STATE_FILE, json.dumps(state, indent=2, default=str) + "\n")
        shutil.rmtree(final, ignore_errors=True)
        temporary.replace(final)
        sync_folder(run)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    for old in list_checkpoints(run)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def list_checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    found = [p for p in run.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", p.name)]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))


def find_checkpoint(
    run: Path, wanted: str, identity: Mapping[str, Any]
) -> tuple[Path, dict[str, Any], list[str]]:
    """The checkpoint to continue from, its state, and what was wrong with newer ones.

    ``wanted`` is ``last`` or a path. A damaged last one gives way to the one before it; one that
    was named must be whole. ``OutputError`` where none is left, or where the run is another.
    """
    last = wanted == "last"
    candidates = list_checkpoints(run)[::-1] if last else [Path(wanted).expanduser()]
    damaged: list[str] = []
    for folder in candidates:
        try:
            state = _read_state(folder)
        except (OSError, ValueError, KeyError) as error:
            damaged.append(f"{folder}: damaged ({error})")
            continue
        _require_same(folder, state["identity"], identity)
        return folder, state, damaged
    if damaged:
        raise OutputError(damaged, hint="No checkpoint is whole: start again with --overwrite.")
    raise OutputError(f"{run}: there is no checkpoint to continue from")


def _read_state(folder: Path) -> dict[str, Any]:
    """The JSON of a checkpoint whose other files have the checksums that it names."""
    state: dict[str, Any] = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    if state["format"] != FORMAT:
        raise ValueError(f"of format {state['format']}, this lorita reads {FORMAT}")
    for name, expected in state["sha256"].items():
        if not (folder / name).is_file():
            raise ValueError(f"{name} is missing")
        if _checksum(folder / name) != expected:
            raise ValueError(f"{name} is not what was written")
    return state


def _require_same(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    different = [
        f"{name} was {then.get(name)!r} and is {now.get(name)!r}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]
    if different:
        raise OutputError(
            [f"{folder.name}: {line}" for line in different],
            hint="A run continues only as it began. Undo the change, or start anew elsewhere.",
        )


def restore(folder: Path, state: Mapping[str, Any], model: PeftModel, trainee: Trainee) -> int:
    """Put a checkpoint into model, optimizer, schedule and random state; return its step."""
    import torch
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
        trainee.optimizer.state[parameter] = moments
        if f"master/{name}" in tensors:
            parameter.data.copy_(tensors[f"master/{name}"])
    trainee.schedule.load_state_dict(dict(state["schedule"]))
    for group, rate in zip(
        trainee.optimizer.param_groups, trainee.schedule.get_last_lr(), strict=True
    ):
        group["lr"] = rate
    torch.set_rng_state(tensors["random/cpu"])
    return int(state["step"])


def _checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _state_tensors(trainee: Trainee) -> dict[str, torch.Tensor]:
    """Optimizer moments and float32 copies by the name of their parameter; the random state."""
    import torch

    tensors = {"random/cpu": torch.get_rng_state()}
    state: dict[Any, dict[str, Any]] = trainee.optimizer.state
    for name, parameter in trainee.masters.parameters.items():
        for key, value in state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = value.detach().cpu().contiguous()
    for name, master in trainee.masters.copies.items():
        tensors[f"master/{name}"] = master.detach().cpu().contiguous()
    return tensors
