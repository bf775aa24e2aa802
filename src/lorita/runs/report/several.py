"""Several runs on one page: what differs between them, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from lorita.runs.report import words
from lorita.runs.report.page import Plot, as_it_is, rendered
from lorita.runs.report.plots import curves
from lorita.runs.report.story import Story
from lorita.settings.schema import RunSettings
from lorita.system.durations import duration
from lorita.system.memory import gigabytes

MOST_CURVES = 8
"""Runs whose curves are drawn: of more, those with the lowest held-out loss."""


@dataclass(frozen=True)
class Row:
    """One run in the table; ``values`` are those of the options in which the runs differ."""

    name: str
    best: bool
    values: list[str]
    base: str
    tuned: str
    training: str
    verdicts: list[str]
    took: str
    memory: str


@dataclass(frozen=True)
class Cell:
    """A place of the grid: its held-out loss and, from 0 (worst) to 100 (best), how good it is."""

    text: str
    goodness: int | None
    best: bool


@dataclass(frozen=True)
class Grid:
    """Held-out losses over the values of one or two options."""

    down: str | None
    across: str
    columns: list[str]
    rows: list[tuple[str, list[Cell]]]


def several_page(stories: Sequence[Story], title: str) -> str:
    """The HTML of a page that compares these runs."""
    differing = _differing(stories)
    names = _names(stories)
    best = _best(stories)
    return rendered(
        "report_several.html.jinja",
        title=title,
        options=differing,
        rows=[
            _row(story, name, differing, story is best)
            for story, name in zip(stories, names, strict=True)
        ],
        grid=_grid(stories, differing, best),
        plots=_plots(stories, names),
        models=sorted({words.model_name(story) for story in stories}),
        data=sorted({name for story in stories for name in words.data_names(story)}),
        comparable=_comparable(stories),
        best=names[list(stories).index(best)] if best is not None else None,
    )


def held_out(story: Story) -> float | None:
    """The held-out loss of the tuned model, in nats per token; None if it was not measured."""
    held = story.comparison.held_out if story.comparison else None
    return held.after if held is not None else None


def _best(stories: Sequence[Story]) -> Story | None:
    measured = [(loss, i) for i, s in enumerate(stories) if (loss := held_out(s)) is not None]
    if len(measured) < 2 or not _comparable(stories):
        return None
    return stories[min(measured)[1]]


def _comparable(stories: Sequence[Story]) -> bool:
    """Whether the held-out losses are of the same rows: then the base's own are the same."""
    held = [found for s in stories if s.comparison and (found := s.comparison.held_out)]
    return all(
        each.rows == held[0].rows and math.isclose(each.before, held[0].before, rel_tol=1e-3)
        for each in held
    )


def _names(stories: Sequence[Story]) -> list[str]:
    """The runs' names; with the folder above, where two are called the same."""
    names = [words.run_name(story) for story in stories]
    if len(set(names)) == len(names):
        return names
    return ["/".join(story.folder.absolute().parts[-2:]) for story in stories]


def _differing(stories: Sequence[Story]) -> list[str]:
    """The options whose values are not the same in all runs."""
    settings = [story.settings for story in stories if story.settings is not None]
    return [
        name
        for name in RunSettings.model_fields
        if name not in words.NOT_SHOWN
        and any(getattr(each, name) != getattr(settings[0], name) for each in settings[1:])
    ]


def _value(story: Story, name: str) -> str:
    return words.shown_value(getattr(story.settings, name)) if story.settings else ""


def _row(story: Story, name: str, options: list[str], best: bool) -> Row:
    held = story.comparison.held_out if story.comparison else None
    proof = story.comparison.proof if story.comparison else None
    peak = story.record.figures.peak_memory if story.record else None
    final = story.final_loss
    return Row(
        name=name,
        best=best,
        values=[_value(story, option) for option in options],
        base="" if held is None else f"{held.before:.4f}",
        tuned="" if held is None else f"{held.after:.4f}",
        training="" if final is None else f"{final:.4f}",
        verdicts=verdicts(story) if proof or not story.finished else [],
        took=duration(story.training.seconds) if story.training.steps else "",
        memory="" if peak is None else gigabytes(peak),
    )


def verdicts(story: Story) -> list[str]:
    """What came of a run in a few words each; that it did not finish or failed, if so."""
    if story.record is None:
        return ["not finished"]
    if not all(check.passed for check in story.record.checks):
        return ["failed its checks"]
    proof = story.comparison.proof if story.comparison else None
    return [sentence.partition(":")[0] for sentence in proof.sentences()] if proof else []


def _grid(stories: Sequence[Story], options: list[str], best: Story | None) -> Grid | None:
    """The losses over one or two options; None if the runs differ in others, or in none."""
    if not 1 <= len(options) <= 2 or len(stories) < 2 or not _comparable(stories):
        return None
    across, down = options[-1], options[0] if len(options) == 2 else None
    columns = _values(stories, across)
    lines = _values(stories, down) if down else [""]
    losses = [loss for story in stories if (loss := held_out(story)) is not None]
    if not losses:
        return None
    found: dict[tuple[str, str], Story] = {}
    for story in stories:
        found[(_value(story, down) if down else "", _value(story, across))] = story
    low, high = min(losses), max(losses)
    cells = {place: _cell(found.get(place), low, high, best) for place in product(lines, columns)}
    rows = [(line, [cells[line, column] for column in columns]) for line in lines]
    return Grid(down, across, columns, rows)


def _values(stories: Sequence[Story], option: str) -> list[str]:
    """The values of an option in their order, as they are written."""

    def order(value: Any) -> tuple[int, float, str]:
        number = isinstance(value, (int, float))
        return (0, float(value), "") if number else (1, 0.0, str(value))

    values = [getattr(story.settings, option) for story in stories if story.settings]
    return list(dict.fromkeys(words.shown_value(v) for v in sorted(values, key=order)))


def _cell(story: Story | None, low: float, high: float, best: Story | None) -> Cell:
    loss = held_out(story) if story is not None else None
    if story is None or loss is None:
        return Cell("not run" if story is None else "no loss", None, False)
    goodness = round(100 * (high - loss) / (high - low)) if high > low else 50
    return Cell(f"{loss:.4f}", goodness, story is best)


def _plots(stories: Sequence[Story], names: Sequence[str]) -> list[Plot]:
    def order(pair: tuple[Story, str]) -> float:
        loss = held_out(pair[0])
        return float("inf") if loss is None else loss

    pairs = sorted(zip(stories, names, strict=True), key=order)
    left_out = len(pairs) - MOST_CURVES
    remark = f"The {MOST_CURVES} best of {len(pairs)} runs." if left_out > 0 else ""
    best = pairs[:MOST_CURVES]
    trained = [(story.training.curve("loss"), name) for story, name in best]
    seen = [(story.held_out_curve(), name) for story, name in best]
    plots = []
    for title, lines, dots in (
        ("Training loss, nats per token", trained, False),
        ("Held-out loss, nats per token", seen, True),
    ):
        drawn = [(points, name) for points, name in lines if points]
        if drawn:
            shown = tuple(range(len(drawn))) if dots else ()
            label = f"{title} of {len(drawn)} runs"
            svg = curves([points for points, _ in drawn], label=label, points=shown)
            plots.append(Plot(title, as_it_is(svg), tuple(name for _, name in drawn), remark))
    return plots
