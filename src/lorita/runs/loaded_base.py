"""A base model in memory, ready for one run after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorita.engine.causal_lm import looks_ahead
from lorita.engine.numerics import choose_numerics
from lorita.errors import ModelError
from lorita.models.base import check_tokenizer_fits, load_model
from lorita.models.fingerprint import fingerprint
from lorita.models.memory_needs import Sizes, base_sizes
from lorita.runs.memory_plan import fitting_itemsize
from lorita.system.memory import memory_in_use

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
    ``notes`` say what was chosen for it and why. ``used_before`` are the bytes that the process
    used before it was loaded.
    """

    model: PreTrainedModel
    dtype: torch.dtype
    accelerator: Accelerator
    fingerprint: dict[str, Any]
    notes: tuple[str, ...]
    sizes: Sizes | None = None
    used_before: int = 0


def load_base(settings: RunSettings, prepared: Prepared) -> LoadedBase:
    """Load the base in the dtype that suits the machine.

    ``ModelError`` if that fails, or if the model is no causal language model.
    """
    import torch
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=settings.use_cpu)
    device = accelerator.device
    numerics = choose_numerics(settings.dtype, device=device.type)
    numerics.apply()
    sizes, used = base_sizes(prepared.base), memory_in_use()
    dtype, why = numerics.dtype, None
    if device.type == "cpu":
        itemsize, why = fitting_itemsize(settings, prepared, sizes, dtype.itemsize)
        dtype = dtype if itemsize == dtype.itemsize else torch.bfloat16
    model = load_model(prepared.base, dtype).to(device)
    check_tokenizer_fits(prepared.base, prepared.tokenizer, model)
    if looks_ahead(model):
        raise ModelError(
            f"{prepared.base.name} sees the tokens after the one that it should predict, so its "
            "loss would mean nothing",
            hint="Choose a model that continues text, such as a Llama, Qwen or Gemma; encoders "
            "like BERT do not.",
        )
    notes = (*numerics.reasons, *([why] if why else []))
    return LoadedBase(model, dtype, accelerator, fingerprint(model), notes, sizes, used)
