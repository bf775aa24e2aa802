"""The rows that the settings ask for: where from, how read, how split and how cut."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.data.formats.choose_format import Wanted
from lorita.data.formats.preferences import preferred_rows
from lorita.data.formats.readers import read_rows
from lorita.data.quality.problems import Problem
from lorita.data.quality.rendered_text import Asked, rendered_problem, spelled_problem
from lorita.data.rows import Row, Rows
from lorita.data.sources.load_source import load_source
from lorita.data.sources.map_row import MapRow, map_rows
from lorita.data.sources.python_rows import rows_source
from lorita.data.sources.source import Source
from lorita.data.splits import Split, split_rows
from lorita.data.tokens.chat_template import ChatTemplate
from lorita.data.tokens.control_tokens import ControlTokens, control_tokens
from lorita.data.tokens.encoder import AS_TEXT
from lorita.data.tokens.new_tokens import NewTokens
from lorita.data.tokens.tokenize import Treatment
from lorita.errors import DataError
from lorita.runs.asked import asked_function
from lorita.settings.build import ROWS_NAME
from lorita.settings.schema import RunSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONGEST_DEFAULT = 2048
"""Rows are cut here when the user says nothing and the model could take more."""


def find_source(settings: RunSettings) -> Source:
    """The data named in the settings, or the rows passed in Python."""
    function = asked_function(settings)  # before any data is read, which may take long
    return _usable(settings, _find_source(settings), function)


def _usable(settings: RunSettings, source: Source, function: MapRow | None) -> Source:
    """The rows after ``map_row``, without answers that are labelled as bad."""
    mapped = _mapped(settings, source, function)
    as_text = settings.text_field or settings.text_template or settings.format == "text"
    return mapped if as_text else preferred_rows(mapped)


def _mapped(settings: RunSettings, source: Source, function: MapRow | None) -> Source:
    if settings.map_row is None or function is None:
        return source
    return map_rows(source, function, settings.map_row.rpartition(":")[2])


def _find_source(settings: RunSettings) -> Source:
    if settings.given("data") is not None:
        return rows_source(settings.given("data"), ROWS_NAME, settings.data_split)
    if settings.data == [ROWS_NAME] and not Path(ROWS_NAME).exists():
        raise DataError(
            "the rows of this run were passed in Python",
            hint="Pass them again: lorita.train(config=..., data=rows).",
        )
    return load_source(
        settings.data,
        name=settings.data_name,
        split=settings.data_split,
        revision=settings.data_revision,
        text_unit=settings.text_unit,
        file_type=settings.file_type,
        streaming=_rows_to_stream(settings),
    )


def held_out_file(settings: RunSettings) -> Rows | None:
    """The rows of ``eval_data``; None where there is none."""
    if settings.eval_data is None:
        return None
    function = asked_function(settings)
    rows = settings.given("eval_data")
    source = (
        load_source(settings.eval_data, text_unit=settings.text_unit, file_type=settings.file_type)
        if rows is None
        else rows_source(rows, ROWS_NAME)
    )
    return read_rows(_usable(settings, source, function), wanted_reading(settings))


def wanted_reading(settings: RunSettings) -> Wanted:
    """The settings' options about columns, as the data layer takes them."""
    return Wanted(
        format=settings.format,
        text_field=settings.text_field,
        text_template=settings.text_template,
        messages_field=settings.messages_field,
        prompt_field=settings.prompt_field,
        completion_field=settings.completion_field,
        ignore_fields=tuple(settings.ignore_fields or ()),
    )


def longest_row(settings: RunSettings, context: int | None) -> int:
    """``max_length``, or the model's context up to ``LONGEST_DEFAULT`` tokens."""
    return settings.max_length or min(LONGEST_DEFAULT, context or LONGEST_DEFAULT)


def treatment(settings: RunSettings, max_length: int, template: ChatTemplate | None) -> Treatment:
    """The settings' options about tokenising rows, as the data layer takes them."""
    overflow = settings.overflow or ("split" if settings.packing else "truncate")
    control = settings.control_tokens or AS_TEXT
    return Treatment(max_length, template, settings.train_on, overflow, control)


def rendered_rows(
    settings: RunSettings,
    rows: Sequence[Row],
    numbers: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    template: ChatTemplate | None,
) -> Problem | None:
    """The problem that rows look like rendered chats, if the settings do not say what they are."""
    given = settings.control_tokens is not None
    chosen = settings.format == "text" or settings.text_template is not None
    asked = Asked(chosen, template is not None and settings.chat_template is None, given)
    return rendered_problem(rows, numbers, control_tokens(tokenizer, template), asked)


def unclear_tokens(
    settings: RunSettings, rows: Sequence[Row], numbers: Sequence[int], new: NewTokens
) -> Problem | None:
    """The problem that rows spell a new control token, if the settings do not say what it means."""
    if settings.control_tokens is not None or not new.special:
        return None
    return spelled_problem(rows, numbers, ControlTokens(tuple(sorted(new.special))))


def split_data(settings: RunSettings, num_rows: int, groups: Sequence[int]) -> Split:
    """Which rows are training rows and which are held out; ``groups`` stay together."""
    return split_rows(
        num_rows,
        max_train_samples=settings.max_train_samples,
        eval_fraction=settings.eval_fraction,
        max_eval_samples=settings.max_eval_samples,
        has_eval_data=settings.eval_data is not None,
        seed=settings.seed,
        groups=groups,
    )


def read_all_rows(settings: RunSettings) -> tuple[Rows, Rows | None]:
    """The rows of ``data``, and those of ``eval_data`` if given."""
    rows = read_rows(find_source(settings), wanted_reading(settings))
    held = held_out_file(settings)
    if held is None:
        return rows, None
    if held.kind != rows.kind:
        raise DataError(
            f"{held.origin}: held-out rows are read as {held.understood}, "
            f"training rows as {rows.understood}",
            hint="Give both the same columns.",
        )
    return rows, held


def _rows_to_stream(settings: RunSettings) -> int | None:
    """How many rows to stream: the same ones are used as without streaming."""
    if not settings.streaming or settings.max_train_samples is None:
        return None
    return settings.max_train_samples + settings.max_eval_samples
