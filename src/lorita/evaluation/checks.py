"""The success contract: what must hold before a run may call itself done.

Each check has a name, an outcome and a figure; all are recorded, failed ones too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.errors import CheckFailed
from lorita.models.adapter import (
    WEIGHTS_FILE,
    adapter_tensors,
    set_adapter_tensors,
    trainable_parameters,
)
from lorita.storage.run_record import Check

if TYPE_CHECKING:
    import torch
    from peft import PeftModel


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
        _check_biases(model, folder),
    ]


def _check_biases(model: PeftModel, folder: Path) -> Check:
    """Biases are trained in the base itself; some PEFT versions train them and do not save them."""
    from safetensors.torch import load_file

    trained = {n: p for n, p in trainable_parameters(model).items() if n.endswith(".bias")}
    file = load_file(folder / WEIGHTS_FILE)
    saved = sum(name in file and file[name].equal(bias.cpu()) for name, bias in trained.items())
    kind = model.peft_config["default"].bias
    return Check(
        "every trained bias is in the file",
        saved == len(trained),
        f"{saved} of {len(trained)}, bias {kind}",
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


def check_moved(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> Check:
    """The tuned model says something else than the base, by its logits after each prompt."""
    distances = [
        float((old.float() - new.float()).abs().max())
        for old, new in zip(before, after, strict=True)
    ]
    moved = sum(distance > 0.0 for distance in distances)
    return Check(
        "the output differs from the base",
        moved == len(distances),
        f"on {moved} of {len(distances)} comparison prompts, logits by up to {max(distances):.2e}",
    )


def require(checks: Sequence[Check]) -> None:
    """``CheckFailed`` that names every check that did not pass."""
    failed = [f"{check.name}: no ({check.found})" for check in checks if not check.passed]
    if failed:
        raise CheckFailed(
            failed,
            hint="The adapter was saved for inspection, but the run did not succeed.",
        )
