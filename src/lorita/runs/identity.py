"""What a run must have in common with the run that it continues, and what it should."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

from lorita.engine.kernels import native
from lorita.models.fingerprint import tokenizer_digest
from lorita.settings.facts import options_where
from lorita.storage.run_record import machine, versions

if TYPE_CHECKING:
    from lorita.runs.loaded_base import LoadedBase
    from lorita.runs.prepare import Prepared
    from lorita.settings.schema import RunSettings

COMPUTING = ("lorita", "torch", "transformers", "peft", "accelerate", "tokenizers")
"""Packages whose versions can change a result."""
MATH = ("MKL_", "ONEDNN_", "DNNL_", "ATEN_CPU_", "KMP_DETERMINISTIC", "OMP_SCHEDULE")
"""Environment variables, by their beginnings, that choose how libraries compute."""


def identity(
    settings: RunSettings, prepared: Prepared, base: LoadedBase, rows_per_step: int
) -> dict[str, object]:
    """Model, tokenizer, rows, and the settings that change the result, as checkpoints store them.

    Where the files are and what is reported may differ, and how the rows of a step are divided
    among batches and processes.
    """
    values = settings.model_dump(mode="json", exclude=set(options_where(identity=False)))
    if settings.evaluation_decides:
        values["eval_steps"] = settings.eval_steps
        ids = [example.input_ids for example in prepared.data.held_out]
        values["held-out rows"] = hashlib.sha256(json.dumps(ids).encode()).hexdigest()
    asked = prepared.data.prompt_format.record()
    del asked["control_tokens"]  # an option of its own, which earlier runs did not have
    asked.pop("repetition_penalty", None)  # of answers alone
    return {
        "base": prepared.base.reference,
        "revision": prepared.base.revision,
        "base weights": base.fingerprint["digest"],
        "tokenizer": tokenizer_digest(prepared.tokenizer),
        "training rows": prepared.data.fingerprint,
        "prompt format": asked,
        "rows per step": rows_per_step,
        **values,
    }


def conditions(settings: RunSettings, base: LoadedBase) -> dict[str, object]:
    """What a run was computed with: it changes the last digits of the result and nothing else."""
    import torch

    device, here, found = base.accelerator.device, machine(), versions()
    own = settings.speedup and device.type == "cpu"
    return {
        "processes": base.accelerator.num_processes,
        "device": here.gpu if device.type == "cuda" else device.type,
        "number format": str(base.dtype).removeprefix("torch."),
        "processor": f"{here.architecture} {here.processor}",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": here.threads,
        "float32 products": torch.get_float32_matmul_precision(),
        "kernels": native.build() if own else "none",
        "variables": {k: v for k, v in sorted(os.environ.items()) if _steers_math(k)},
        **{package: found[package] for package in COMPUTING},
    }


def _steers_math(variable: str) -> bool:
    return variable.startswith(MATH) and "VERBOSE" not in variable
