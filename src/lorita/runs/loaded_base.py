"""A base model in memory, ready for one run after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorita.engine.numerics import choose_numerics
from lorita.models.base import check_tokenizer_fits, load_model
from lorita.models.fingerprint import fingerprint

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from transformers import PreTrainedModel

    from lorita.runs.prepare import Prepared
    from lorita.settings.schema import RunSettings


@dataclass(frozen=True)
class LoadedBase:
    """A base without an adapter, on this process's device.

    ``dtype`` is the format of its weights, ``fingerprint`` identifies it among models, and
    ``notes`` say what was chosen for it and why.
    """

    model: PreTrainedModel
    dtype: torch.dtype
    accelerator: Accelerator
    fingerprint: dict[str, Any]
    notes: tuple[str, ...]


def load_base(settings: RunSettings, prepared: Prepared) -> LoadedBase:
    """Load the base in the dtype that suits the machine; ``ModelError`` if that fails."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=settings.use_cpu)
    numerics = choose_numerics(settings.dtype, device=accelerator.device.type)
    numerics.apply()
    model = load_model(prepared.base, numerics.dtype).to(accelerator.device)
    check_tokenizer_fits(prepared.base, prepared.tokenizer, model)
    return LoadedBase(
        model, numerics.dtype, accelerator, fingerprint(model), tuple(numerics.reasons)
    )
