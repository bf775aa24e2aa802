"""What the options of a run state about themselves, looked up by name."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

from lorita.settings.option import OptionFacts, facts_of
from lorita.settings.schema import RunSettings


@cache
def facts(name: str) -> OptionFacts:
    """What the option ``name`` states about itself."""
    return facts_of(RunSettings.model_fields[name])


def options_where(**wanted: str | bool) -> tuple[str, ...]:
    """The options with these facts, in the order of their definition."""
    return tuple(
        name
        for name in RunSettings.model_fields
        if all(getattr(facts(name), fact) == value for fact, value in wanted.items())
    )


def lora_options(settings: RunSettings) -> dict[str, Any]:
    """The options that PEFT's ``LoraConfig`` takes, under its own names."""
    return settings.model_dump(include=set(options_where(group="LoRA")))


def shape_options(settings: RunSettings) -> dict[str, Any]:
    """The same where only the shapes count: the tokens of an invocation are not known yet."""
    asked = settings.alora_invocation_tokens
    return {**lora_options(settings), "alora_invocation_tokens": None if asked is None else [0]}


def divisor(rank: int, rslora: bool) -> float:
    """What lora_alpha is divided by: r, or sqrt(r) with ``use_rslora`` (arXiv:2312.03732)."""
    return rank**0.5 if rslora else rank


def scale_of(settings: RunSettings) -> float:
    """What the adapter's output is multiplied by."""
    return settings.lora_alpha / divisor(settings.r, settings.use_rslora)


def differences(
    before: RunSettings, now: RunSettings, besides: Collection[str]
) -> dict[str, tuple[Any, Any]]:
    """The options whose values differ, but those ``besides``: their value before, and now."""
    old, new = (
        settings.model_dump(mode="json", exclude=set(besides)) for settings in (before, now)
    )
    return {name: (old[name], new[name]) for name in new if old[name] != new[name]}
