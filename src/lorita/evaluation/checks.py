"""The checks that a run must pass to count as successful.

Each check has a name, an outcome and a figure. All of them are recorded, including failed ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.errors import CheckFailed
from lorita.models.adapter import adapter_tensors, set_adapter_tensors, trainable_parameters
from lorita.models.adapter_files import WEIGHTS_FILE
from lorita.storage.run_record import Check

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

POSITIONS = 32
"""Tokens at the end of a prompt whose logits are compared: enough, and never too many to hold."""


def check_adapter(model: PeftModel, folder: Path) -> list[Check]:
    """Check that the adapter is finite and was trained, and that ``folder`` has its biases."""
    import torch

    tensors = adapter_tensors(model)
    finite = sum(bool(torch.isfinite(t).all()) for t in tensors.values())
    ups = [t for name, t in tensors.items() if "lora_B" in name or "lora_embedding_B" in name]
    moved = sum(bool(t.any()) for t in ups)
    return [
        Check(
            "all adapter tensors are finite", finite == len(tensors), f"{finite} of {len(tensors)}"
        ),
        Check("lora_B is not all zeros", moved > 0 or not ups, f"{moved} of {len(ups)} matrices"),
        _check_biases(model, folder),
    ]


def _check_biases(model: PeftModel, folder: Path) -> Check:
    """Check that trained biases were saved; some versions of PEFT train but do not save them."""
    from safetensors.torch import load_file

    trained = {n: p for n, p in trainable_parameters(model).items() if n.endswith(".bias")}
    file = load_file(folder / WEIGHTS_FILE)
    saved = sum(name in file and file[name].equal(bias.cpu()) for name, bias in trained.items())
    kind = model.peft_config["default"].bias
    return Check(
        "the file contains every trained bias",
        saved == len(trained),
        f"{saved} of {len(trained)}, bias {kind}",
    )


def check_reload(model: PeftModel, folder: Path, input_ids_1L: torch.Tensor) -> list[Check]:
    """Check that the saved file restores the adapter: the same tensors, the same logits.

    The adapter in memory is set to zero and loaded again from ``folder``. The base is not loaded
    again: this proves that the file contains the whole adapter.
    """
    import torch
    from safetensors.torch import load_file

    from lorita.engine.causal_lm import last_logits

    kept = {name: t.clone() for name, t in adapter_tensors(model).items()}
    with torch.no_grad():
        before = last_logits(model, input_ids_1L, POSITIONS)
        set_adapter_tensors(model, {name: torch.zeros_like(t) for name, t in kept.items()})
        loaded = load_file(folder / WEIGHTS_FILE)
        set_adapter_tensors(model, loaded)
        after = last_logits(model, input_ids_1L, POSITIONS)
    same = sum(name in loaded and loaded[name].equal(t) for name, t in kept.items())
    distance = float((before.float() - after.float()).abs().max())
    return [
        Check(
            "the file contains the trained tensors bit for bit",
            same == len(kept) == len(loaded),
            f"{same} of {len(kept)}",
        ),
        Check(
            "the reloaded adapter produces identical logits",
            distance == 0.0,
            f"largest difference {distance:.1e}",
        ),
    ]


def check_moved(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> Check:
    """Check that tuning changed the logits (``before`` and ``after``, [V] each) of every prompt."""
    distances = [
        float((old.float() - new.float()).abs().max())
        for old, new in zip(before, after, strict=True)
    ]
    moved = sum(distance > 0.0 for distance in distances)
    return Check(
        "the output differs from the base model's",
        moved == len(distances),
        f"on {moved} of {len(distances)} comparison prompts, by up to {max(distances):.2e} in the "
        "logits",
    )


def require(checks: Sequence[Check]) -> None:
    """Raise ``CheckFailed``, which names every check that failed, unless all have passed."""
    failed = [f"check failed: {check.name} ({check.found})" for check in checks if not check.passed]
    if failed:
        raise CheckFailed(
            failed,
            hint="The adapter was saved so that you can inspect it, but the run has failed.",
        )
