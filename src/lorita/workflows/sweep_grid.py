"""The runs of a sweep: every combination of the given values.

Only options of the adapter and of training can vary: the base stays in memory, and losses are
compared on the same rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorita.errors import LoritaError, SettingsError
from lorita.settings.build import build_settings, option_name, suggestion
from lorita.settings.facts import facts
from lorita.settings.schema import RunSettings
from lorita.workflows.sweep_scale import keep_scale

_RANKS = ("r", "rank_pattern")


@dataclass(frozen=True)
class Point:
    """One run of the grid: its name, the values that set it apart, all its settings."""

    name: str
    values: dict[str, Any]
    settings: RunSettings


def split_values(flags: Mapping[str, Any]) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Flags as typed: those with several values, split, and the others.

    ``--r 4,16`` is two values; so is ``--target-modules "q_proj,v_proj;all-linear"``, whose
    values have commas of their own.
    """
    grid: dict[str, list[Any]] = {}
    others: dict[str, Any] = {}
    for name, value in flags.items():
        mark = ";" if facts(name).holds_commas else ","
        many = isinstance(value, str) and mark in value
        if many and facts(name).swept:
            grid[name] = [part.strip() for part in value.split(mark) if part.strip()]
        else:
            others[name] = value
    return grid, others


def make_grid(
    grid: Mapping[str, Sequence[Any]], config: str | Path | None, **options: Any
) -> list[Point]:
    """Every combination of the values in ``grid``, the last option changing fastest.

    Where ranks are swept, lora_alpha follows them unless it is given (``sweep_scale``).
    Raises ``SettingsError`` with the problems of all of them.
    """
    names = {name: option_name(name) for name in grid}
    problems = [_refusal(name, known) for name, known in names.items()]
    problems += [f"{name}: no values given" for name in grid if not list(grid[name])]
    if any(problems):
        raise SettingsError([problem for problem in problems if problem])
    options = {key: value for key, value in options.items() if option_name(key) not in grid}
    axes = {str(names[name]): list(values) for name, values in grid.items()}
    given = {*axes, *filter(None, map(option_name, options))}
    points: list[Point] = []
    for combination in itertools.product(*axes.values()):
        values = dict(zip(axes, combination, strict=True))
        try:
            settings = build_settings(config, **options, **values)
            others = {name: value for name, value in values.items() if name not in _RANKS}
            settings = keep_scale(settings, build_settings(config, **options, **others), given)
        except LoritaError as error:
            problems += error.problems
            continue
        if settings.time_budget is not None:
            problems.append(
                "time_budget is for a single run: those of a sweep are compared after equally many "
                "steps (--max-steps or --num-train-epochs)"
            )
        chosen = {name: getattr(settings, name) for name in axes}
        points.append(Point(_name(chosen), chosen, settings))
    if any(problems):
        raise SettingsError(list(dict.fromkeys(filter(None, problems))))
    return list({point.name: point for point in points}.values())


def _refusal(name: str, known: str | None) -> str | None:
    if known is None:
        return f"unknown option {name!r}{suggestion(name)}"
    if facts(known).swept:
        return None
    return (
        f"{known} cannot be swept: runs differ in LoRA and training options, and share base, data "
        "and device"
    )


def _name(values: Mapping[str, Any]) -> str:
    """A folder name: ``learning_rate-0.001_r-4``."""
    return "_".join(f"{name}-{_word(value)}" for name, value in values.items()) or "run"


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        parts: Iterable[str] = (f"{key}={number}" for key, number in value.items())
    elif isinstance(value, list):
        parts = (str(part) for part in value)
    else:
        parts = [f"{value:.10g}" if isinstance(value, float) else str(value).lower()]
    word = "+".join(parts)
    return "".join(c if c.isalnum() or c in "+-.=_" else "~" for c in word)
