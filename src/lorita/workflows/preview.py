"""How lorita understands some data, before training: ``lorita preview``.

Needs the model's config and tokenizer, no weights. Rows that training would refuse are skipped here
and reported as problems, so that all of them are seen at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median_low
from typing import TYPE_CHECKING, Any

from lorita.data.examples import Encoded, Tokenized
from lorita.data.formats.choose_format import choose_reading
from lorita.data.formats.readers import read_rows
from lorita.data.formats.reading import Reading
from lorita.data.formats.stored_rows import row_batches, select_rows
from lorita.data.lengths import Bin, histogram
from lorita.data.quality.duplicates import Duplicates, find_duplicates
from lorita.data.quality.problems import Problem, find_problems, problem
from lorita.data.row_errors import Problems
from lorita.data.rows import Rows
from lorita.data.splits import Split, unseen
from lorita.data.tokens.choose_template import choose_template
from lorita.data.tokens.encoder import Encoder
from lorita.data.tokens.long_rows import chat_notes, fit_rows
from lorita.data.tokens.new_tokens import add_new_tokens, unused_note
from lorita.data.tokens.token_view import RowView, view_row
from lorita.data.tokens.tokenize import Treatment, encode_rows
from lorita.models.base import Base, load_config, load_tokenizer
from lorita.models.context import context_length
from lorita.models.plain_tokenizer import Plain, find_plain, keep_plain
from lorita.runs.asked import asked_base
from lorita.runs.read_data import (
    find_source,
    held_out_file,
    longest_row,
    rendered_rows,
    split_data,
    treatment,
    unclear_tokens,
    wanted_reading,
)
from lorita.runs.unused import unused_for_data
from lorita.settings.build import build_settings
from lorita.settings.schema import RunSettings
from lorita.system.torchless import start_without_torch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from typing_extensions import Unpack

    from lorita.settings.arguments import Options

SHOWN_ROWS = 3


@dataclass(frozen=True)
class Spread:
    """Tokens per row: least, median and most; and the total."""

    least: int
    median: int
    most: int
    total: int


@dataclass(frozen=True)
class Preview:
    """How data was understood. Lengths and trained tokens are those of the training rows.

    ``columns`` maps roles to columns; ``others`` are alternative readings, with the options that
    select them.
    """

    origin: str
    model: str
    format: str
    columns: dict[str, str]
    text_template: str | None
    not_used: list[str]
    others: dict[str, str]
    rows: int
    train_rows: int
    held_out_rows: int
    unusable_rows: int
    notes: list[str]
    max_length: int
    context: int | None
    lengths: Spread
    trained: Spread
    rows_cut: int
    rows_split: int
    rows_dropped: int
    tokens_cut: int
    trained_tokens_cut: int
    histogram: list[Bin]
    first_rows: list[RowView]
    problems: list[Problem]

    @property
    def reading(self) -> str:
        """The format and its columns in words."""
        return str(Reading(self.format, self.columns, self.text_template))

    def __repr__(self) -> str:
        problems = len(self.problems)
        return f"Preview of {self.origin}: {self.reading}, {self.rows:,} rows, {problems} problems"

    def _repr_html_(self) -> str:
        """How the data is understood, in a notebook."""
        from lorita.workflows.results_html import preview_html

        return preview_html(self)

    def as_dict(self) -> dict[str, Any]:
        """All fields as plain values, ready for JSON."""
        return asdict(self)


def preview(*, config: str | Path | None = None, **options: Unpack[Options]) -> Preview:
    """How ``lorita.train`` with these options would understand the data, and its problems.

    Raises ``UserError`` if the data cannot be read at all.
    """
    return look_through(build_settings(config, **options))


def look_through(settings: RunSettings) -> Preview:
    """The preview of a run's data."""
    base = asked_base(settings)
    plain = _plain_tokenizer(base, settings)
    source = find_source(settings)
    taken, others = choose_reading(source, wanted_reading(settings))
    found = Problems(source.origin)
    rows = read_rows(source, wanted_reading(settings), found)
    tokenizer = plain.tokenizer
    new = add_new_tokens(tokenizer, settings.add_tokens, settings.add_special_tokens)
    template, template_notes = choose_template(
        tokenizer, settings.chat_template, rows.kind, rows.rows
    )
    how = treatment(settings, longest_row(settings, plain.context), template)
    encoder = how.encoder(tokenizer)
    numbers, encoded = _usable(rows, encoder, how, found)
    chosen = list(select_rows(rows.rows, numbers))
    held_rows = held_out_file(settings)
    held = list(held_rows.rows) if held_rows else []
    seen = find_duplicates([*chosen, *held])
    split = split_data(settings, len(chosen), seen.groups[: len(chosen)])
    train = [text for i in split.train for text in encoded[i]]
    fitted = fit_rows(train, max_length=how.max_length, overflow=how.overflow, bos=encoder.bos)
    problems = _refused(found) + _length_problems(train, how)
    problems += find_problems(
        chosen, numbers, seen.first_rows(len(chosen)), control=encoder.control
    )
    rendered = rendered_rows(settings, chosen, numbers, tokenizer, template)
    unclear = unclear_tokens(settings, chosen, numbers, new)
    problems += filter(None, (rendered, unclear))
    known = _seen_in_training(split, len(chosen), seen)
    problems += _known_problem(known)
    fresh = min(len(held) - len(known), settings.max_eval_samples)
    notes = [*source.notes, *rows.notes, split.how, *new.notes, *template_notes]
    notes += _chat_notes(encoded, found)
    notes += unused_note(new, [text.example for text in train])
    notes += unused_for_data(settings, base, rows.kind)
    return Preview(
        origin=str(rows.origin),
        model=settings.model,
        format=taken.format,
        columns=dict(taken.roles),
        text_template=taken.template,
        not_used=[
            c for c in source.columns if c not in taken.roles.values() and taken.template is None
        ],
        others={str(other): other.flags for other in others},
        rows=len(source.rows),
        train_rows=len(split.train),
        held_out_rows=fresh if held_rows else len(split.held_out),
        unusable_rows=len(source.rows) - len(chosen),
        notes=notes,
        max_length=how.max_length,
        context=plain.context,
        **_figures(train, fitted),
        first_rows=_views(fitted, tokenizer),
        problems=sorted(problems, key=lambda found: not found.stops),
    )


def _plain_tokenizer(base: Base, settings: RunSettings) -> Plain:
    """The tokenizer, without transformers where it was kept and no tokens are added to it."""
    adds = settings.add_tokens is not None or settings.add_special_tokens is not None
    if not adds and (found := find_plain(base)) is not None:
        return found
    if base.reads_without_torch():
        start_without_torch()
    config, tokenizer = load_config(base), load_tokenizer(base)
    keep_plain(base, config, tokenizer)
    return Plain(tokenizer, context_length(config))


def _figures(train: Sequence[Encoded], fitted: Tokenized) -> dict[str, Any]:
    lengths = [len(row.example.input_ids) for row in train]
    return {
        "lengths": _spread(lengths),
        "trained": _spread([example.num_targets for example in fitted.examples]),
        "rows_cut": fitted.rows_cut,
        "rows_split": fitted.rows_split,
        "rows_dropped": fitted.rows_dropped,
        "tokens_cut": fitted.tokens_cut,
        "trained_tokens_cut": fitted.targets_cut,
        "histogram": histogram(lengths),
    }


def _spread(counts: Sequence[int]) -> Spread:
    counts = counts or [0]
    return Spread(min(counts), median_low(counts), max(counts), sum(counts))


def _views(fitted: Tokenized, tokenizer: PreTrainedTokenizerBase) -> list[RowView]:
    return [view_row(example, tokenizer) for example in fitted.examples[:SHOWN_ROWS]]


def _usable(
    rows: Rows, encoder: Encoder, how: Treatment, found: Problems
) -> tuple[list[int], list[list[Encoded]]]:
    """The numbers and tokens of the usable rows; the others are added to ``found``."""
    bad = found.rows
    readable = [i for i in range(len(rows.rows)) if i not in bad]
    encoded: dict[int, list[Encoded]] = {}
    done = 0
    for batch in row_batches(select_rows(rows.rows, readable)):
        numbers = readable[done : done + len(batch)]
        for text in encode_rows(batch, numbers, encoder, how, found):
            encoded.setdefault(text.example.row, []).append(text)
        done += len(batch)
    good = {n: texts for n, texts in encoded.items() if all(t.example.num_targets for t in texts)}
    if not good:
        found.raise_any()
    return list(good), list(good.values())


def _chat_notes(encoded: Sequence[Sequence[Encoded]], found: Problems) -> list[str]:
    divided = sum(len(texts) > 1 for texts in encoded)
    left_out = {name: len(rows) for name, rows in found.left_out.items()}
    return chat_notes(divided, left_out, rows=len(encoded))


def _refused(found: Problems) -> list[Problem]:
    """What training refuses."""
    return [
        problem(what, rows, found.hints.get(what, "Remove or fix these rows."), stops=True)
        for what, rows in found.found.items()
    ]


def _length_problems(train: Sequence[Encoded], how: Treatment) -> list[Problem]:
    long = [row.example.row for row in train if len(row.example.input_ids) > how.max_length]
    if not long:
        return []
    fix = {
        "truncate": "They are cut: raise --max-length, or --overflow split for long texts.",
        "split": "Long texts are split and nothing is lost; of other rows the prompt is cut.",
        "drop": "They are dropped: raise --max-length, or cut them with --overflow truncate.",
    }[how.overflow]
    return [problem(f"longer than max_length ({how.max_length} tokens)", long, fix)]


def _seen_in_training(split: Split, count: int, seen: Duplicates) -> list[int]:
    """Which rows of a separate held-out file (those after ``count``) are also training rows."""
    places = range(count, len(seen.groups))
    fresh = set(unseen(split.train, places, seen.groups))
    return [place - count for place in places if place not in fresh]


def _known_problem(known: Sequence[int]) -> list[Problem]:
    if not known:
        return []
    fix = "They are not used as held-out rows; remove them from one of the two."
    return [problem("held-out rows that duplicate training rows", known, fix)]
