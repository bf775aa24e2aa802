"""Rows longer than ``max_length``: cut, split or dropped, and counted.

Plain text is cut at its end, or split in order. In rows with an answer, the prompt is cut from the
left and the answer is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median_low

from lorita.data.examples import IGNORE, Encoded, Example, Tokenized

CHOICES = ("truncate", "split", "drop")


def fit_rows(
    rows: Sequence[Encoded], *, max_length: int, overflow: str, bos: int | None
) -> Tokenized:
    """All rows fitted to at most ``max_length`` tokens; ``overflow`` is one of ``CHOICES``.

    ``bos`` is the token that begins every row, if any; each piece of a row then begins with it. No
    target is lost except those counted, and none is duplicated.
    """
    examples: list[Example] = []
    cut = tokens = targets = split = dropped = 0
    for row in rows:
        whole = row.example
        if len(whole.input_ids) <= max_length:
            examples.append(whole)
            continue
        pieces = _fit(row, max_length, overflow, bos)
        examples += pieces
        targets += whole.num_targets - sum(piece.num_targets for piece in pieces)
        dropped += not pieces
        if overflow == "split" and row.answer is None:
            split += 1
        else:
            cut += bool(pieces)
            tokens += len(whole.input_ids) - sum(len(piece.input_ids) for piece in pieces)
    return Tokenized(examples, cut, tokens, targets, split, dropped)


def _fit(row: Encoded, max_length: int, overflow: str, bos: int | None) -> list[Example]:
    if overflow == "drop":
        return []
    if row.answer is not None:
        return [_keep_answer(row.example, row.answer, max_length, bos)]
    if overflow == "split":
        return _split(row.example, max_length, bos)
    whole = row.example
    return [Example(whole.input_ids[:max_length], whole.labels[:max_length], whole.row)]


def _split(whole: Example, max_length: int, bos: int | None) -> list[Example]:
    """Pieces in order. Each but the first begins with a token that is only context.

    That is the beginning-of-text token, or else the token before the piece: without it, the first
    token of a piece would be predicted from nothing, and so never be trained.
    """
    ids, labels = whole.input_ids, whole.labels
    begins = bos is not None and ids[0] == bos
    pieces = [Example(ids[:max_length], labels[:max_length], whole.row)]
    for start in range(max_length, len(ids), max_length - 1):
        end = start + max_length - 1
        context = ids[0] if begins else ids[start - 1]
        pieces.append(Example([context, *ids[start:end]], [IGNORE, *labels[start:end]], whole.row))
    return pieces


def _keep_answer(
    whole: Example, answer: tuple[int, int], max_length: int, bos: int | None
) -> Example:
    """The last answer with as much before it as fits; the beginning-of-text token stays first.

    What follows the answer is dropped first. An answer that is itself too long loses its end.
    """
    ids, labels = whole.input_ids, whole.labels
    lead = 1 if bos is not None and ids[0] == bos else 0
    room = max_length - lead
    begin, end = answer
    if end - begin > max_length - 1:
        begin = max(begin, lead)
        start = begin if lead else max(begin - 1, 0)
        end = start + room
    else:
        start = max(end - room, lead)
    kept_labels = [*labels[:lead], *labels[start:end]]
    # The first token is predicted from nothing, so it is only context.
    kept_labels[0] = IGNORE
    return Example([*ids[:lead], *ids[start:end]], kept_labels, whole.row)


def token_note(examples: Sequence[Example]) -> str:
    """A sentence on the lengths of rows and the tokens trained per epoch."""
    lengths, trained = [], 0
    for example in examples:
        lengths.append(len(example.input_ids))
        trained += example.num_targets
    return (
        f"{min(lengths):,} to {max(lengths):,} tokens per row (median {median_low(lengths):,}); "
        f"{trained:,} of {sum(lengths):,} are trained"
    )


def chat_notes(divided: int, left_out: Mapping[str, int], *, rows: int) -> list[str]:
    """Sentences on what the chat template does to rows; none if it shows them whole, in one."""
    notes = []
    if divided:
        notes.append(
            f"{divided} of {rows} chats became several examples: the chat template shows earlier "
            "answers differently once more turns follow, so each of these ends its own example"
        )
    notes += [
        f"left out by the chat template: {name} ({count} of {rows} rows)"
        for name, count in left_out.items()
    ]
    return notes


def cut_notes(result: Tokenized, *, rows: int, max_length: int) -> list[str]:
    """Sentences on what happened to long rows; none if all rows fitted."""
    notes = []
    longer = f"longer than max_length ({max_length})"
    if result.rows_cut:
        lost = result.targets_cut
        trained = f", {lost:,} of which would have been trained" if lost else ""
        notes.append(
            f"{result.rows_cut} of {rows} rows are {longer}: "
            f"{result.tokens_cut:,} tokens were cut{trained}"
        )
    if result.rows_split:
        notes.append(
            f"{result.rows_split} of {rows} rows are {longer} and were split: "
            f"{len(result.examples)} pieces in all, no token lost"
        )
    if result.rows_dropped:
        notes.append(
            f"{result.rows_dropped} of {rows} rows are {longer} and were dropped "
            f"({result.tokens_cut:,} tokens)"
        )
    return notes
