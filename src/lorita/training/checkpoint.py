"""Checkpoints: everything that continues a run, complete or not there at all.

    checkpoint-N/
      adapter_config.json  adapter_model.safetensors   the adapter, loadable like any other
      trainer_state.safetensors                        optimizer moments and random states
      trainer_state.json                               step, schedule, checksums of the others

Only safetensors and JSON; a checkpoint never runs code. It is written under a temporary name,
synced and renamed.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.adapter import save_adapter
from lorita.files import write_atomic

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from lorita.training.loop import Trainee

TENSORS_FILE = "trainer_state.safetensors"
STATE_FILE = "trainer_state.json"
FORMAT = 1


def save_checkpoint(run: Path, step: int, model: PeftModel, trainee: Trainee, keep: int) -> Path:
    """Write ``checkpoint-N`` into the run folder and remove all but the newest ``keep``."""
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
            "sha256": {file.name: _checksum(file) for file in sorted(temporary.iterdir())},
        }
        write_atomic(temporary / STATE_FILE, json.dumps(state, indent=2, default=str) + "\n")
        shutil.rmtree(final, ignore_errors=True)
        temporary.replace(final)
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


def _checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _state_tensors(trainee: Trainee) -> dict[str, torch.Tensor]:
    """Optimizer moments by the name of their parameter, and torch's random state."""
    import torch

    tensors = {"random/cpu": torch.get_rng_state()}
    state: dict[Any, dict[str, Any]] = trainee.optimizer.state
    for name, parameter in trainee.masters.parameters.items():
        for key, value in state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = value.detach().cpu().contiguous()
    return tensors
