"""The success contract: what must hold before a run may call itself done.

Each check has a name, an outcome and a figure; all are recorded, failed ones too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.adapter import WEIGHTS_FILE, adapter_tensors, set_adapter_tensors, trainable_parameters
from lorita.errors import CheckFailed

if TYPE_CHECKING:
    import torch
    from peft import PeftModel


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and what was found."""

    name: str
    passed: bool
    found: str


def check_adapter(model: PeftModel, folder: Path) -> list[Check]:
    """The adapter in memory and in ``folder``: finite, not empty, complete, the same."""
    import torch

    tensors = adapter_tensors(model)
    finite = sum(bool(torch.isfinite(t).all()) for t in tensors.values())
    ups = [t for name, t in tensors.items() if "lora_B" in name or "lora_embedding_B" in name]
    moved = sum(bool(t.any()) for t in ups)
    return [
        Check("all tensors are finite", finite == len(tensors), f"{finite} of {len(tensors)}"),
        Check("lora_B is not zero", moved > 0 or not ups, f"{moved} of {len(ups)} matrices"),
        _check_biases(model, tensors),
    ]


def _check_biases(model: PeftModel, tensors: dict[str, Any]) -> Check:
    trained = [name for name in trainable_parameters(model) if name.endswith(".bias")]
    saved = [name for name in tensors if name.endswith(".bias")]
    return Check(
        "every trained bias is in the file",
        len(saved) >= len(trained),
        f"{len(saved)} saved, {len(trained)} trained",
    )


def check_reload(model: PeftModel, folder: Path, input_ids_1L: torch.Tensor) -> list[Check]:
    """Wipe the adapter in memory, read the file back, and compare tensors and logits.

    The base is not loaded a second time: what is proved is that the file alone gives the adapter.
    """
    import torch
    from safetensors.torch import load_file

    kept = {name: t.clone() for name, t in adapter_tensors(model).items()}
    with torch.no_grad():
        before = model(input_ids=input_ids_1L).logits
        set_adapter_tensors(model, {name: torch.zeros_like(t) for name, t in kept.items()})
        loaded = load_file(folder / WEIGHTS_FILE)
        set_adapter_tensors(model, loaded)
        after = model(input_ids=input_ids_1L).logits
    same = sum(name in loaded and loaded[name].equal(t) for name, t in kept.items())
    distance = float((before.float() - after.float()).abs().max())
    return [
        Check(
            "the file holds the trained tensors, bit for bit",
            same == len(kept) == len(loaded),
            f"{same} of {len(kept)}",
        ),
        Check(
            "reloaded, it gives equal logits",
            distance == 0.0,
            f"largest difference {distance:.1e}",
        ),
    ]


def check_moved(before: torch.Tensor, after: torch.Tensor) -> Check:
    """The tuned model says something else than the base, by its logits after the first prompt."""
    distance = float((before.float() - after.float()).abs().max())
    return Check("the output differs from the base", distance > 0.0, f"by up to {distance:.2e}")


def require(checks: Sequence[Check]) -> None:
    """``CheckFailed`` that names every check that did not pass."""
    failed = [f"{check.name}: no ({check.found})" for check in checks if not check.passed]
    if failed:
        raise CheckFailed(
            failed,
            hint="The adapter was saved for inspection, but the run did not succeed.",
        )
