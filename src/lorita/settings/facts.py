"""What the options of a run state about themselves, looked up by name."""

from __future__ import annotations

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
