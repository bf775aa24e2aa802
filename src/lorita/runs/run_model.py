"""The model of one run: an adapter put on a base, and the base given back.

    with adapter_on(base, settings, prepared) as attached:
        ...                      # train attached.model, measure it
    ...                          # the base is as it was loaded, whatever happened above

"Before" is measured last, so that training starts at once and what it produced is safe on disk
first. The adapter is taken off for that, and trained biases are put back: with ``bias`` other than
``none``, switching an adapter off does not give the base back.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from lorita.engine.frozen_layers import bottom_cache
from lorita.engine.kept_prompts import kept_prompts
from lorita.engine.numerics import int8_reason, int8_suits
from lorita.engine.speedup import speedup, unspeed
from lorita.errors import SettingsError
from lorita.evaluation.measure import measure
from lorita.inference.checked_base import torch_dtype
from lorita.models import adapter as adapters
from lorita.models.adapter_halves import FixedHalves, attached_options, start_notes
from lorita.models.adapter_start import start_adapter
from lorita.models.base import own_dtype
from lorita.models.base_weights import load_model
from lorita.runs.chosen import epochs_of
from lorita.runs.memory_plan import can_checkpoint, longest_row_too_large
from lorita.runs.start_batches import start_batches
from lorita.settings.facts import lora_options
from lorita.system.memory import available_memory
from lorita.training.objective import end_to_end_loss, padded_loss

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from lorita.engine.frozen_layers import BottomCache
    from lorita.engine.kept_prompts import KeptPrompts
    from lorita.evaluation.measure import Measured, Questions
    from lorita.runs.loaded_base import LoadedBase
    from lorita.runs.prepare import Prepared
    from lorita.settings.schema import RunSettings
    from lorita.training.events import Event
    from lorita.training.objective import LossSum


@dataclass(frozen=True)
class Attached:
    """A new adapter on a base, ready to train.

    ``loss_sum`` computes the loss of some rows; ``may_share``: it can compute a beginning that rows
    have in common once. ``checkpointing`` says whether activations are recomputed in the backward
    pass. ``base_biases`` are the base's own biases, by name.
    """

    model: PeftModel
    base: LoadedBase
    base_biases: dict[str, torch.Tensor]
    loss_sum: LossSum
    checkpointing: bool
    parameter_line: str
    notes: tuple[str, ...]
    may_share: bool = False
    fixed: FixedHalves = field(default_factory=FixedHalves)
    """What of the adapter is not trained."""
    prompts: KeptPrompts | None = None
    """What keeps the prompts of an activated adapter's rows, which are the base's own."""


@contextmanager
def adapter_on(base: LoadedBase, settings: RunSettings, prepared: Prepared) -> Iterator[Attached]:
    """The base with a new adapter, which is taken off at the end, whatever happens."""
    attached = attach(base, settings, prepared)
    try:
        yield attached
    finally:
        take_off(attached)


def attach(base: LoadedBase, settings: RunSettings, prepared: Prepared) -> Attached:
    """Attach a new adapter to the base and, if enabled, the fast step.

    Raises ``AdapterError`` if the adapter does not fit this model and ``SettingsError`` if the fast
    step cannot do what is asked; the base is then as it was.
    """
    biases = adapters.untouched(base.model)
    new = list(prepared.new_tokens.pieces)
    options = lora_options(settings)
    if prepared.invocation is not None:
        options["alora_invocation_tokens"] = list(prepared.invocation.tokens)
    config, notes = adapters.plan_adapter(base.model, attached_options(options), new)
    model = adapters.attach(base.model, config, seed=settings.seed)
    try:
        batches = partial(start_batches, prepared, base.accelerator.device)
        exact = replace(prepared.base, precision=None)
        original = partial(load_model, exact, torch_dtype(own_dtype(exact)))
        fixed = start_adapter(model, settings.init_lora_weights, batches, original)
        said = [*notes, *start_notes(options)]
        return _ready_to_train(model, base, biases, settings, prepared, said, fixed)
    except BaseException:
        _give_back(model, biases)
        raise


def take_off(attached: Attached) -> None:
    """Restore the base as it was loaded: no adapter, its own biases and forward methods."""
    _give_back(attached.model, attached.base_biases)


def _give_back(model: PeftModel, biases: dict[str, torch.Tensor]) -> None:
    base = model.get_base_model()
    if any(getattr(module, "gradient_checkpointing", False) for module in base.modules()):
        base.gradient_checkpointing_disable()
    base.disable_input_require_grads()
    unspeed(base)
    adapters.take_off(model, biases)


def _ready_to_train(
    model: PeftModel,
    base: LoadedBase,
    biases: dict[str, torch.Tensor],
    settings: RunSettings,
    prepared: Prepared,
    said: Sequence[str],
    fixed: FixedHalves,
) -> Attached:
    notes = [*said, *adapters.bias_note(model)]
    too_large = longest_row_too_large(settings, prepared, base.dtype.itemsize, available_memory())
    if not can_checkpoint(base.model):
        too_large = None
    checkpointing = settings.gradient_checkpointing or too_large is not None
    if too_large is not None and not settings.gradient_checkpointing:
        notes.append(too_large)
    if checkpointing:
        base.model.gradient_checkpointing_enable({"use_reentrant": False})
        if not getattr(base.model, "_require_grads_hooks", None):
            # Newer transformers have done it; a second hook could not be removed again.
            base.model.enable_input_require_grads()
    device = base.accelerator.device
    bottom = prompts = None
    if settings.speedup:
        notes += _speed_up(model, base, settings)
        bottom, kept = _keep_bottom(base, settings)
        prompts, kept_too = _keep_prompts(base, settings, prepared)
        notes += kept + kept_too
        loss_sum = end_to_end_loss(base.model, device=device, bottom=bottom, prompts=prompts)
    else:
        pad_id = prepared.tokenizer.eos_token_id
        loss_sum = padded_loss(base.model, pad_id=pad_id, device=device)
    line = adapters.parameter_line(model, fixed.size)
    # Kept lower layers are those of whole rows; an activated adapter may act on a beginning in
    # some of its rows only.
    may_share = settings.speedup and bottom is None and prepared.invocation is None
    return Attached(
        model, base, biases, loss_sum, checkpointing, line, tuple(notes), may_share, fixed, prompts
    )


def _speed_up(model: PeftModel, base: LoadedBase, settings: RunSettings) -> list[str]:
    """Apply the fast step; return what was chosen and why."""
    precision = "int8" if settings.base_precision == "int8" else None
    device = base.accelerator.device.type
    notes = []
    if precision is not None and device == "cpu":
        notes.append(int8_reason(base.dtype))
    elif base.precision is None and int8_suits(settings.dtype, base.dtype, device):
        notes.append(
            "--base-precision int8 would be faster: this processor multiplies 8-bit weights with "
            "16-bit activations faster than float32"
        )
    try:
        report = speedup(
            model, base_precision=precision, use_liger_kernel=settings.use_liger_kernel
        )
    except ValueError as error:
        raise SettingsError(str(error)) from error
    return [*notes, *report.lines()]


def _keep_bottom(base: LoadedBase, settings: RunSettings) -> tuple[BottomCache | None, list[str]]:
    """If only upper layers are adapted, compute the lower ones once per row."""
    if settings.layers_to_transform is None:
        return None, []
    limit = (available_memory() or 2**30) // 4
    cache = bottom_cache(base.model, limit)
    if isinstance(cache, str):
        return None, [f"Lower layers are computed in every epoch: {cache}"]
    return cache, [f"Layers below {cache.first} are computed once for each row and kept"]


def _keep_prompts(
    base: LoadedBase, settings: RunSettings, prepared: Prepared
) -> tuple[KeptPrompts | None, list[str]]:
    """An activated adapter does not change what comes before its invocation: compute it once."""
    if prepared.invocation is None or settings.layers_to_transform is not None:
        return None, []
    if base.accelerator.device.type != "cpu":
        return None, []
    # In a single epoch no row comes again.
    again = epochs_of(settings, prepared.data, base.accelerator.num_processes) > 1
    limit = (available_memory() or 2**30) // 4 if again else 0
    cache = kept_prompts(base.model, limit)
    if isinstance(cache, str):
        return None, [f"What comes before the invocation is computed in every epoch: {cache}"]
    cache.look_at(example.input_ids for example in prepared.data.train)
    if not cache.count:  # they are short, and computed as fast with their rows
        return None, []
    kept = f" and kept for the other epochs ({cache.expected / 1e6:,.0f} MB)" if again else ""
    return cache, [f"What comes before the invocation is computed once{kept}, without a gradient"]


def as_saved(attached: Attached, settings: RunSettings) -> PeftModel:
    """The trained model as it will load from its files: no recomputation, no int8 products."""
    if attached.checkpointing:
        attached.base.model.gradient_checkpointing_disable()
    if settings.base_precision == "int8":
        speedup(attached.model)
    return attached.model.eval()  # type: ignore[no-any-return]


def measure_base(
    base: LoadedBase, questions: Questions, *, fast: bool
) -> Generator[Event, None, Measured]:
    """Measure the base alone; with ``fast`` through the fast path, which is removed again."""
    if not fast:
        return (yield from measure(base.model, questions, "the base"))
    speedup(base.model)
    try:
        return (yield from measure(base.model, questions, "the base"))
    finally:
        unspeed(base.model)
