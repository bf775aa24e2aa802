"""A preview in words, wherever it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorita.workflows.preview import Preview, Spread


def facts(found: Preview) -> Iterator[tuple[str, str]]:
    """How the data is understood, and its figures: a label and a text each."""
    yield "Data", found.origin
    left = f"; not used: {', '.join(found.not_used)}" if found.not_used else ""
    yield "Read as", found.reading + left
    for reading, flags in found.others.items():
        yield "", f"could also be read as {reading} ({flags})"
    unusable = f", {found.unusable_rows:,} cannot be used" if found.unusable_rows else ""
    yield (
        "Rows",
        f"{found.rows:,}: {found.train_rows:,} for training, {found.held_out_rows:,} held out"
        + unusable,
    )
    for note in found.notes:
        yield "", note
    yield "Tokens", f"{_spread(found.lengths)}; max_length is {found.max_length:,}"
    kept = found.lengths.total - found.tokens_cut
    share = f" ({found.trained.total / kept:.0%} of the tokens kept)" if kept else ""
    yield "Trained", _spread(found.trained) + share
    yield "Cut", cut_text(found)


def _spread(spread: Spread) -> str:
    return (
        f"{spread.total:,} in total; {spread.least:,} to {spread.most:,} per row, "
        f"median {spread.median:,}"
    )


def cut_text(found: Preview) -> str:
    """How many rows were cut, split or dropped, and how many tokens were lost."""
    parts = [
        f"{count:,} row{'s' if count > 1 else ''} {how}"
        for count, how in (
            (found.rows_cut, "cut"),
            (found.rows_split, "split"),
            (found.rows_dropped, "dropped"),
        )
        if count
    ]
    if not parts:
        return "none"
    trained = f", {found.trained_tokens_cut:,} of which would have been trained"
    return f"{', '.join(parts)}: {found.tokens_cut:,} tokens lost{trained}"
