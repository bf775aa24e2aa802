"""A base model in memory, ready for one run after another."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorita.engine.causal_lm import looks_ahead
from lorita.engine.numerics import choose_numerics
from lorita.errors import LoritaWarning, ModelError, SettingsError
from lorita.models.base_weights import check_tokenizer_fits, load_model
from lorita.models.fingerprint import fingerprint
from lorita.models.memory_needs import Sizes, base_sizes
from lorita.models.new_rows import grow
from lorita.runs.base_form import fitting_form
from lorita.system.memory import memory_in_use, peak_memory
from lorita.system.processes import launch_warning

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from transformers import PreTrainedModel

    from lorita.models.base import Precision
    from lorita.runs.prepare import Prepared
    from lorita.settings.schema import RunSettings


@dataclass(frozen=True)
class LoadedBase:
    """A base without an adapter, on this process's device.

    ``dtype`` is the format of its weights, ``fingerprint`` identifies it among models, and
    ``notes`` say what was chosen for it and why. ``used_before`` are the bytes that the process
    used before it was loaded, ``peak_before`` the most that it had used until then. ``precision``
    is that of the ``Base``, which may have been chosen to fit in memory.
    """

    model: PreTrainedModel
    dtype: torch.dtype
    accelerator: Accelerator
    fingerprint: dict[str, Any]
    notes: tuple[str, ...]
    sizes: Sizes | None = None
    used_before: int = 0
    peak_before: int = 0
    precision: Precision | None = None


def join_processes(use_cpu: bool) -> Accelerator:
    """This process's device, and its place among those that a launcher has started.

    ``SettingsError`` if they cannot be joined.
    """
    import torch
    from accelerate import Accelerator

    wants_cpu = not torch.accelerator.is_available()  # else accelerate joins processes on GPUs only
    try:
        accelerator = Accelerator(cpu=use_cpu or wants_cpu)
    except (ValueError, RuntimeError) as error:
        said = str(error).strip().partition("\n")[0]
        raise SettingsError(
            f"the processes of this launch cannot be joined: {said}",
            hint="Start them with torchrun, or a single one without a launcher.",
        ) from error
    warning = launch_warning(accelerator.num_processes)
    if warning is not None:
        warnings.warn(warning, LoritaWarning, stacklevel=2)
    return accelerator


def load_base(settings: RunSettings, prepared: Prepared) -> LoadedBase:
    """Load the base in the dtype that suits the machine.

    ``ModelError`` if that fails, or if the model is no causal language model.
    """
    import torch

    accelerator = join_processes(settings.use_cpu)
    device = accelerator.device
    numerics = choose_numerics(settings.dtype, device=device.type)
    numerics.apply()
    sizes, used = base_sizes(prepared.base), memory_in_use()
    dtype, why, peak, place = numerics.dtype, None, peak_memory(), prepared.base
    if device.type == "cpu":
        place, itemsize, why = fitting_form(settings, prepared, sizes, dtype.itemsize)
        dtype = dtype if itemsize == dtype.itemsize else torch.bfloat16
    elif place.precision is not None:
        raise SettingsError(f"--base-precision {place.precision} is for a CPU: add --use-cpu")
    model = load_model(place, dtype).to(device)
    known = fingerprint(model)  # of the base as others have it
    grow(model, prepared.new_tokens.pieces)
    check_tokenizer_fits(prepared.base, prepared.tokenizer, model)
    if looks_ahead(model):
        raise ModelError(
            f"{prepared.base.name} sees the tokens after the one that it should predict, so its "
            "loss would mean nothing",
            hint="Choose a model that continues text, such as a Llama, Qwen or Gemma; encoders "
            "like BERT do not.",
        )
    notes = (*numerics.reasons, *([why] if why else []))
    return LoadedBase(
        model, dtype, accelerator, known, notes, sizes, used, peak, precision=place.precision
    )
