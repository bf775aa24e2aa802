"""What a run would take, as a part of the page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from markupsafe import Markup

from lorita.studio.html import heading, joined, table
from lorita.studio.messages import said_list
from lorita.studio.words import Words

if TYPE_CHECKING:
    from lorita.workflows.plan import Plan

_COUNTS = re.compile(r"trainable params: ([\d,]+) \|\| all params: ([\d,]+) \|\| trainable%: (.+)")


def forecast(words: Words, plan: Plan, remark: str = "") -> str:
    """The HTML of a plan; ``remark`` stands where the time is not known."""
    parts: list[str] = [heading(words("forecast")), table(_lines(words, plan, remark))]
    if plan.warnings:
        title = Markup('<p class="warned"><strong>{}</strong></p>').format(words("warnings"))
        parts += [title, said_list(words, plan.warnings)]
    if plan.notes:
        title = Markup("<details><summary>{}</summary>{}</details>")
        parts.append(title.format(words("notes"), said_list(words, plan.notes)))
    return joined(parts)


def _lines(words: Words, plan: Plan, remark: str) -> Iterator[tuple[str, object]]:
    known = plan.forecast
    if known is not None:
        time = _time(words, plan)
        yield (
            words("time"),
            time if time else Markup('<span class="quiet">{}</span>').format(remark),
        )
        peak = words.size(known.peak_bytes)
        yield (
            words("memory"),
            words("memory_only", peak=peak)
            if known.free_bytes is None
            else words("memory_figures", peak=peak, free=words.size(known.free_bytes)),
        )
    if plan.work is not None:
        epochs = f"{plan.work.epochs:.3g}".replace(".", words.decimal)
        yield (
            words("steps"),
            words("steps_figures", steps=plan.work.steps, rows=plan.work.rows, epochs=epochs),
        )
    if counts := _COUNTS.fullmatch(plan.parameter_line):
        trained, every = (int(counts[i].replace(",", "")) for i in (1, 2))
        share = f"{100 * trained / every:.2g}".replace(".", words.decimal)
        yield (
            words("parameters"),
            words("parameters_figures", trained=trained, all=every, share=share),
        )
    yield words("adapter_size"), words.size(plan.adapter_bytes)


def _time(words: Words, plan: Plan) -> str:
    known = plan.forecast
    if known is None or known.seconds is None:
        return ""
    training = words.time(known.seconds)
    whole, after = known.seconds_in_all, known.seconds_after
    if whole is None or after is None or known.around is None:
        return words("time_training", training=training)
    return words(
        "time_figures",
        whole=words.time(whole),
        before=words.time(known.around.before),
        training=training,
        after=words.time(after),
    )
