"""What a run would train, and how much disk, memory and time it would take.

Parameters and sizes come from the model's ``config.json`` alone: the model is built on torch's meta
device, as shapes without memory. If there is data, a few steps on it are timed. With
``--no-probe``, memory is forecast from the shapes, and no weights are needed at all.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from lorita.data.tokens.new_tokens import NewTokens, add_new_tokens
from lorita.engine.numerics import choose_numerics
from lorita.errors import ModelError
from lorita.models import adapter as adapters
from lorita.models.adapter_halves import attached_options, fixed_halves, start_notes
from lorita.models.base import Base, load_tokenizer
from lorita.models.base_precision import IN_MEMORY
from lorita.models.empty_model import empty_model
from lorita.models.memory_needs import Sizes, idle_inputs, sizes_of, weight_bytes
from lorita.models.new_rows import grow
from lorita.runs.asked import asked_base
from lorita.runs.base_answers import is_answered
from lorita.runs.base_form import fitting_form
from lorita.runs.chosen import chosen_lines, filled_in
from lorita.runs.loaded_base import load_base
from lorita.runs.measuring_time import around_training
from lorita.runs.memory_plan import (
    can_checkpoint,
    micro_batches_for,
    reckoned_peak,
)
from lorita.runs.output_folder import as_begun
from lorita.runs.prepare import has_gpu, prepare
from lorita.runs.questions import comparison_prompts, make_questions
from lorita.runs.run_model import adapter_on
from lorita.runs.schedule import begin_job
from lorita.runs.training_setup import advice_for, make_pace
from lorita.settings.facts import shape_options
from lorita.settings.file_wishes import as_typed
from lorita.settings.schema import RunSettings
from lorita.system.memory import available_memory, memory_in_use
from lorita.training.beginnings import beginnings_of
from lorita.training.events import Event, Note, OnEvent, PhaseStarted, follow, unseen
from lorita.training.forecast import Forecast, Work, count_work

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lorita.runs.prepare import Prepared


@dataclass(frozen=True)
class Plan:
    """``str()`` is what the command line prints."""

    model: str
    parameter_line: str
    targets: str
    adapter_bytes: int
    weight_bytes: dict[str, int]
    work: Work | None = None
    forecast: Forecast | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """All fields as plain values, ready for JSON; times in seconds, sizes in bytes."""
        values = asdict(self)
        if self.forecast is not None:
            told = self.forecast.event().record()
            values["forecast"] = {name: told[name] for name in told if name != "event"}
        return values

    def __str__(self) -> str:
        weights = ", ".join(f"{size / 1e6:,.0f} MB in {t}" for t, size in self.weight_bytes.items())
        return "\n".join(
            [
                self.parameter_line,
                f"LoRA on: {self.targets}",
                *self.notes,
                f"Adapter on disk: {self.adapter_bytes / 1e6:.2f} MB",
                f"Base weights in memory: {weights}",
                *([self.work.line()] if self.work else []),
                *(self.forecast.lines() if self.forecast else []),
                *(f"Warning: {text}" for text in self.warnings),
            ]
        )


def plan_run(
    settings: RunSettings,
    *,
    data: bool = False,
    on_event: OnEvent = unseen,
    started: float | None = None,
) -> Plan:
    """Count what the settings would train; with ``data``, also forecast memory and time.

    Nothing is written. Without ``data``, no weights are loaded and ``settings.data`` is not read.
    ``started`` is when the command began (``time.perf_counter``), imports included, which a run
    needs as well.
    """
    started = time.perf_counter() if started is None else started
    base = asked_base(settings)
    model = empty_model(base)
    sizes = sizes_of(model, base)
    new = _new_tokens(settings, base)
    grow(model, new.pieces)
    options = shape_options(settings)
    config, notes = adapters.plan_adapter(model, attached_options(options), list(new.pieces))
    peft_model = adapters.attach(model, config, seed=settings.seed)
    fixed = fixed_halves(peft_model, settings.init_lora_weights).size
    trained = sum(p.numel() for p in adapters.trainable_parameters(peft_model).values())
    plan = Plan(
        model=settings.model,
        parameter_line=adapters.parameter_line(peft_model, fixed),
        targets=adapters.target_line(config),
        adapter_bytes=4 * trained,
        weight_bytes=_weights(base, sizes),
        notes=(*new.notes, *notes, *start_notes(options), *adapters.bias_note(peft_model)),
    )
    return _with_data(plan, settings, model, sizes, trained, on_event, started) if data else plan


def _weights(base: Base, sizes: Sizes) -> dict[str, int]:
    """Bytes of the base's weights by the form in which they can be in memory."""
    if base.precision is None:
        return {"bfloat16": 2 * sizes.numbers, "float32": 4 * sizes.numbers}
    _, blocks = IN_MEMORY.get(base.precision, (0, "the file's own"))
    return {f"{blocks} blocks": weight_bytes(base, sizes, 4)}


def _new_tokens(settings: RunSettings, base: Base) -> NewTokens:
    if settings.add_tokens is None and settings.add_special_tokens is None:
        return NewTokens()
    tokenizer = load_tokenizer(base)
    return add_new_tokens(tokenizer, settings.add_tokens, settings.add_special_tokens)


def _with_data(
    plan: Plan,
    settings: RunSettings,
    model: PreTrainedModel,
    sizes: Sizes,
    trained: int,
    on_event: OnEvent,
    started: float,
) -> Plan:
    anew = {"resume": False, "resume_from_checkpoint": None, "push_to_hub": False}
    on_event(PhaseStarted("Reading the rows"))
    prepared = prepare(as_typed(settings, **anew), writes=False, weights=settings.probe)
    if not settings.probe:
        return _without_weights(plan, settings, prepared, model, sizes, trained)
    on_event(PhaseStarted(f"Loading {settings.model}"))
    base = load_base(settings, prepared)
    on_event(PhaseStarted("Timing a few steps"))
    notes: list[str] = []
    with adapter_on(base, settings, prepared) as attached:
        prompts = comparison_prompts(settings, prepared, base.model)
        begun = begin_job(settings, prepared, attached, prompts, started=started)
        job = follow(begun, lambda event: _show_or_keep(event, notes, on_event))
        questions = make_questions(
            settings, prepared, base.model, prompts, trained_tokens=job.work.tokens
        )
        asks = not is_answered(base, questions, settings)
        job.around = around_training(base.model, questions, asks, started=started)
        warnings = (*prepared.data.warnings, *job.advice(), *job.too_large())
        found = replace(plan, work=job.work, forecast=job.probe(), warnings=warnings)
        return replace(found, notes=(*plan.notes, *notes, *job.notes))


def _show_or_keep(event: Event, notes: list[str], on_event: OnEvent) -> None:
    if isinstance(event, Note):
        notes.append(event.text)
    else:
        on_event(event)


def _without_weights(
    plan: Plan,
    settings: RunSettings,
    prepared: Prepared,
    model: PreTrainedModel,
    sizes: Sizes,
    trained: int,
) -> Plan:
    """The forecast of memory, from shapes alone; time is not measured."""
    on_gpu = has_gpu(settings)
    numerics = choose_numerics(settings.dtype, device="cuda" if on_gpu else "cpu")
    used = memory_in_use()
    itemsize, notes = numerics.dtype.itemsize, list(numerics.reasons[:1])
    warnings = list(prepared.data.warnings)
    try:
        form, itemsize, why = fitting_form(settings, prepared, sizes, itemsize)
        prepared = replace(prepared, base=form)
        notes = [why] if why else notes
    except ModelError as error:
        warnings.append(str(error))
    free = available_memory()
    left = None if free is None else free - weight_bytes(prepared.base, sizes, itemsize)
    micro_of = partial(
        micro_batches_for,
        settings, prepared, itemsize, left, can_checkpoint=can_checkpoint(model), on_cpu=not on_gpu,
        expands=prepared.base.precision is not None,
    )  # fmt: skip
    micro, processes = micro_of(), int(os.environ.get("WORLD_SIZE", "1"))
    asked = as_begun(settings, prepared.output_dir)
    settings = filled_in(asked, prepared.data, processes)
    notes += chosen_lines(asked, settings, prepared.data, processes)
    pace, shared = make_pace(settings, prepared, micro, processes), None
    apart = settings.layers_to_transform or settings.alora_invocation_tokens
    if settings.speedup and not apart:
        shared = beginnings_of(prepared.data.train, pace, processes)
    if shared is not None:
        micro = micro_of(shared=shared.typical)
        pace = replace(pace, token_budget=micro.tokens)
        notes.append(shared.line(micro.tokens))
    work = count_work(prepared.data.train, prepared.data.held_out, pace, shared)
    warnings += advice_for(settings, prepared, pace, work)
    peak = reckoned_peak(
        settings, prepared, sizes, itemsize, micro, work,
        trained=trained, used=used, idle=idle_inputs(model),
    )  # fmt: skip
    return replace(
        plan,
        work=work,
        forecast=Forecast(work, peak, free),
        warnings=tuple(warnings),
        notes=(*plan.notes, *notes),
    )
