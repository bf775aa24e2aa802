"""A base model in memory, and what was measured of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorita.engine.numerics import choose_numerics
from lorita.evaluation.measure import Witness
from lorita.evaluation.row_losses import HeldOutLoss
from lorita.models.base import check_tokenizer_fits, load_model
from lorita.runs.prepare import Prepared
from lorita.settings.schema import RunSettings

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Measured:
    """What a model says to the comparison prompts, its loss on the held-out rows, and the rest."""

    answers: list[str]
    loss: HeldOutLoss | None
    witness: Witness | None
    """For the proof; None without it."""
    logits: list[torch.Tensor]
    """[V], after each prompt."""


@dataclass
class LoadedBase:
    """A base model in memory without an adapter; several runs can use it one after another.

    ``measured`` keeps what was measured of it, for runs that ask it the same.
    """

    model: PreTrainedModel
    dtype: torch.dtype
    accelerator: Accelerator
    notes: list[str]
    measured: Measured | None = None


def load_base(settings: RunSettings, prepared: Prepared) -> LoadedBase:
    """The base in the number format that suits the machine, on the device of this process."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=settings.use_cpu)
    numerics = choose_numerics(settings.dtype, device=accelerator.device.type)
    numerics.apply()
    model = load_model(prepared.base, numerics.dtype).to(accelerator.device)
    check_tokenizer_fits(prepared.base, prepared.tokenizer, model)
    return LoadedBase(model, numerics.dtype, accelerator, list(numerics.reasons))
