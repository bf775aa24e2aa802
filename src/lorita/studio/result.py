"""A finished run, as a part of the page: answers before and after, and the proof."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from markupsafe import Markup

from lorita.evaluation.proof import FEW
from lorita.runs.report.marks import Piece, marked
from lorita.runs.report.story import read_story
from lorita.storage.run_folder import REPORT_FILE
from lorita.studio.html import heading, joined, link, pair, quiet
from lorita.studio.words import Words

if TYPE_CHECKING:
    from lorita.evaluation.comparison import Comparison
    from lorita.evaluation.intervals import Change
    from lorita.evaluation.proof import Forgot, Learned, Memorised, Proof

MOST_SHOWN = 4_000
"""Characters of an answer that are shown; the report has more."""


def result(words: Words, folder: Path) -> str:
    """The HTML of a finished run; ``UserError`` if its files are damaged."""
    story = read_story(folder)
    if not story.finished or story.record is None:
        return quiet(words("no_result"))
    parts: list[str] = []
    for check in (check for check in story.record.checks if not check.passed):
        parts.append(
            Markup('<div class="message" role="alert"><p>{}: {} ({})</p></div>').format(
                words("failed_check"), check.name, check.found
            )
        )
    comparison = story.comparison
    parts += [heading(words("before_after")), *_answers(words, comparison)]
    parts += [heading(words("proof"))]
    if comparison is not None and comparison.proof is not None:
        lines = (Markup("<li>{}</li>").format(text) for text in sentences(words, comparison.proof))
        parts.append(Markup('<ul class="proof">{}</ul>').format(Markup("").join(lines)))
    else:
        parts.append(Markup("<p>{}</p>").format(words("no_proof")))
    if (folder / REPORT_FILE).is_file():
        report = link(f"/files/{quote(folder.name)}/report", words("full_report"), new_tab=True)
        parts.append(Markup("<p>{}</p>").format(report))
    return joined(parts)


def _answers(words: Words, comparison: Comparison | None) -> Iterator[Markup]:
    if comparison is None or not comparison.answers:
        yield Markup("<p>{}</p>").format(words("no_answers"))
        return
    for answer in comparison.answers:
        before, after = marked(answer.before[:MOST_SHOWN], answer.after[:MOST_SHOWN])
        yield Markup('<p class="prompt">{}</p>').format(answer.prompt[:MOST_SHOWN])
        yield pair(words, _pieces(before, "del"), _pieces(after, "ins"))


def _pieces(pieces: list[Piece], tag: str) -> Markup:
    marks = Markup(f"<{tag}>{{}}</{tag}>")
    parts = (marks.format(p.text) if p.differs else Markup("{}").format(p.text) for p in pieces)
    return Markup("").join(parts)


def sentences(words: Words, proof: Proof) -> list[str]:
    """What was learned, forgotten and memorised, in the page's language."""
    return [
        _learned(words, proof.learned),
        _forgot(words, proof.forgot),
        _memorised(words, proof.memorised),
    ]


def _learned(words: Words, learned: Learned) -> str:
    change = learned.held_out
    if change is None:
        return words("learning_not_measured")
    verdict = {-1: "learned", 0: "no_learning", 1: "got_worse"}[change.sign]
    figures = words("learning_figures", rows=learned.rows, **_change(words, change))
    text = f"{words(verdict)}: {figures}"
    if learned.rows < FEW:
        text += f" {words('few_rows')}"
    if learned.overfits and learned.training is not None:
        text += f" {words('overfits', **_change(words, learned.training))}"
    return text


def _forgot(words: Words, forgot: Forgot) -> str:
    key = {
        "No measurable forgetting": "forgot_none",
        "Slight forgetting": "forgot_slight",
        "Some forgetting": "forgot_some",
        "Substantial forgetting": "forgot_substantial",
    }[forgot.verdict]
    figures = _change(words, forgot.change)
    said = words("forgetting_figures", passages=forgot.passages, **figures)
    return f"{words(key)}: {said}"


def _memorised(words: Words, found: Memorised | None) -> str:
    if found is None or not found.rows:
        return words("memorising_not_tested")
    key = {
        "No memorisation found": "memorised_none",
        "Memorised": "memorised_some",
        "Memorised heavily": "memorised_heavily",
    }[found.verdict]
    figures = {
        "extracted": found.extracted,
        "rows": found.rows,
        "extracted_base": found.extracted_base,
    }
    return f"{words(key)}: {words('memorised_figures', **figures)}"


def _change(words: Words, change: Change) -> dict[str, str]:
    return {
        "base": words.figure(change.base),
        "tuned": words.figure(change.tuned),
        "low": words.figure(change.low, sign=True),
        "high": words.figure(change.high, sign=True),
    }
