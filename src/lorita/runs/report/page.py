"""The page of a run as HTML: one file, nothing loaded from elsewhere, whole without scripts.

Rows, prompts and answers are text of strangers. The template escapes all of it, the page's own
policy forbids browsers to load or run anything else, and what turns the direction of text is shown
as an escape.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from lorita.runs.report import words
from lorita.runs.report.drawn import changes_line, shares_line
from lorita.runs.report.marks import Piece, marked
from lorita.runs.report.picture import picture
from lorita.runs.report.plots import bars, curves, file_of, thinned
from lorita.system.terminal_text import shown

if TYPE_CHECKING:
    from lorita.runs.report.story import Story

MOST_SHOWN = 20_000
"""Characters of an answer or prompt that the page shows."""
LOSS_KEY = ("training", "held-out")
LOSS_TITLE = "Loss, nats per token"


@dataclass(frozen=True)
class Plot:
    """A plot with its title, the names of its lines and, if there are any, a remark."""

    title: str
    svg: Any
    key: tuple[str, ...] = ()
    remark: str = ""


@dataclass(frozen=True)
class Asked:
    """A prompt and both answers, in pieces."""

    prompt: str
    before: list[Piece]
    after: list[Piece]


def page(story: Story) -> str:
    """The HTML of ``report.html``."""
    comparison = story.comparison
    proof = comparison.proof if comparison else None
    return rendered(
        "report.html.jinja",
        title=f"{words.run_name(story)}: what the run did",
        story=story,
        record=story.record,
        words=words,
        plots=_plots(story),
        asked=_asked(story),
        proof=proof,
        changes=changes_line(proof) if proof else None,
        shares=shares_line(proof.memorised) if proof else None,
        lengths=_lengths(story),
    )


def rendered(template: str, **values: Any) -> str:
    """A template of the reports, filled in; text is escaped, plots are not."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    resources = files("lorita") / "resources"

    def load(name: str) -> str:
        return (resources / name).read_text(encoding="utf-8")

    script = load("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, loader=FunctionLoader(load)
    )
    made = environment.get_template(template).render(
        **values, script=as_it_is(script), digest=digest, style=as_it_is(load("report.css"))
    )
    return shown(made)


def loss_file(story: Story) -> str | None:
    """The loss curves as an SVG file; None if there were no steps."""
    found = _loss(story)
    if found is None:
        return None
    return file_of(str(found.svg), found.key or LOSS_KEY[:1], title=LOSS_TITLE)


def loss_picture(story: Story) -> bytes | None:
    """The loss curves as a PNG file for the model card; None if there were no steps."""
    trained, held_out = story.training.curve("loss"), story.held_out_curve()
    if not trained:
        return None
    lines = [trained, held_out] if held_out else [trained]
    return picture(lines, LOSS_KEY[: len(lines)], title=LOSS_TITLE)


def _plots(story: Story) -> list[Plot]:
    training = story.training
    found = [_loss(story)]
    for figure, title in (("learning_rate", "Learning rate"), ("grad_norm", "Gradient norm")):
        points = training.curve(figure)
        if points:
            svg = curves([points], label=f"{title} of {len(points)} steps")
            found.append(Plot(title, as_it_is(svg), remark=_remark(len(points))))
    return [plot for plot in found if plot is not None]


def _loss(story: Story) -> Plot | None:
    trained, held_out = story.training.curve("loss"), story.held_out_curve()
    if not trained:
        return None
    lines = [trained, held_out] if held_out else [trained]
    label = f"Training loss from {trained[0][1]:.3f} to {trained[-1][1]:.3f}"
    if held_out:
        label += f", held-out loss from {held_out[0][1]:.3f} to {held_out[-1][1]:.3f}"
    svg = curves(lines, label=label, points=(1,))
    key = LOSS_KEY if held_out else ()
    return Plot(LOSS_TITLE, as_it_is(svg), key, _remark(len(trained)))


def _remark(steps: int) -> str:
    """That a curve is thinned out, if it is."""
    if steps == len(thinned([(0.0, 0.0)] * steps)):
        return ""
    each = -(-steps // len(thinned([(0.0, 0.0)] * steps)))
    return f"Each point is the mean of {each} steps."


def _lengths(story: Story) -> Plot | None:
    found = story.record.data.lengths if story.record else None
    if not found:
        return None
    rows = sum(each.rows for each in found)
    svg = bars(
        [each.rows for each in found],
        [f"{each.start:,}" for each in found],
        label=f"Lengths of {rows} rows, from {found[0].start} to {found[-1].end} tokens",
        x="tokens per row, from",
    )
    return Plot("Rows by their length", as_it_is(svg))


def _asked(story: Story) -> list[Asked]:
    answers = story.comparison.answers if story.comparison else ()
    return [
        Asked(_cut(each.prompt), *marked(_cut(each.before), _cut(each.after))) for each in answers
    ]


def _cut(text: str) -> str:
    text = text.strip()
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]} …"


def as_it_is(text: str) -> Any:
    """Markup that lorita made itself, which a template does not escape."""
    from markupsafe import Markup

    return Markup(text)
