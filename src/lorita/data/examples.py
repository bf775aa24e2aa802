"""What training sees of a row: token ids with the targets marked.

Data sets of any size stay on disk (``sources/table_cache.py``) and are read row by row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias, overload

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    from lorita.data.sources.arrow_table import ArrowTable

IGNORE = -100
"""The label of a token that is not a target, as in torch and transformers."""
Span: TypeAlias = tuple[int, int]
"""Start and end (exclusive) of a run of tokens or characters."""


@dataclass(frozen=True)
class Example:
    """One row: ``input_ids`` and, aligned with them, ``labels`` (an id, or ``IGNORE``).

    ``row`` is its number in the data, counted from 0.
    """

    input_ids: list[int]
    labels: list[int]
    row: int

    @property
    def num_targets(self) -> int:
        """How many tokens are predicted; the first token never is."""
        first = bool(self.labels) and self.labels[0] != IGNORE
        return len(self.labels) - self.labels.count(IGNORE) - first


@dataclass(frozen=True)
class Encoded:
    """A row at full length. ``answer`` is the token span of its last answer; None for plain text.

    What must be kept of a row that is too long depends on it (``tokens/long_rows.py``).
    """

    example: Example
    answer: Span | None = None


@dataclass(frozen=True)
class Tokenized:
    """All rows as tokens, and what happened to those that were too long.

    ``targets_cut`` counts the trained tokens among ``tokens_cut``; both include the tokens of
    dropped rows. ``rows_divided`` are chats that became several examples, ``left_out`` the fields
    that the chat template leaves out on purpose, with the number of rows. ``fingerprint`` is that
    of the rows they were made from (``rows.fingerprint``).
    """

    examples: Sequence[Example]
    rows_cut: int
    tokens_cut: int
    targets_cut: int = 0
    rows_split: int = 0
    rows_dropped: int = 0
    rows_divided: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    fingerprint: str = ""


class StoredExamples(Sequence[Example]):
    """Examples on disk, read when they are indexed or iterated; none are held in memory."""

    def __init__(self, table: Dataset | ArrowTable) -> None:
        self._table = table

    @cached_property
    def lengths(self) -> list[int]:
        """The number of tokens of each example, computed without reading the tokens."""
        import pyarrow.compute as pc

        column = self._table.data.column("input_ids")
        lengths: list[int] = pc.list_value_length(column).to_pylist()
        return lengths

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, at: int) -> Example: ...
    @overload
    def __getitem__(self, at: slice) -> list[Example]: ...
    def __getitem__(self, at: int | slice) -> Example | list[Example]:
        if isinstance(at, slice):
            return _examples(self._table[at])
        place = range(len(self))[at]
        return _examples(self._table[place : place + 1])[0]

    def __iter__(self) -> Iterator[Example]:
        for batch in self._table.iter(batch_size=100):
            yield from _examples(batch)


def _examples(columns: dict[str, list[Any]]) -> list[Example]:
    triples = zip(columns["input_ids"], columns["labels"], columns["row"], strict=True)
    return [Example(ids, list(ids) if labels is None else labels, n) for ids, labels, n in triples]


def example_schema() -> pa.Schema:
    """The Arrow schema of stored examples; ``labels`` is null if every token is a target."""
    import pyarrow as pa

    ids = pa.large_list(pa.int32())
    return pa.schema({"input_ids": ids, "labels": ids, "row": pa.int64()})


def example_batch(examples: Sequence[Example]) -> pa.RecordBatch:
    """Examples as a record batch in ``example_schema``."""
    import numpy as np
    import pyarrow as pa

    ids, labels = [e.input_ids for e in examples], [e.labels for e in examples]
    given = [None if own == whole else own for own, whole in zip(labels, ids, strict=True)]
    rows = np.array([e.row for e in examples], np.int64)
    numbers = pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(rows)])
    return pa.record_batch([_lists(ids), _lists(given), numbers], schema=example_schema())


def _lists(lists: Sequence[Sequence[int] | None]) -> pa.Array:
    """Lists of numbers, or None, as an Arrow array; ``pa.array`` would import pandas first."""
    import numpy as np
    import pyarrow as pa

    known = np.array([numbers is not None for numbers in lists], bool)
    ends = np.cumsum([0, *(len(numbers or ()) for numbers in lists)], dtype=np.int64)
    flat = np.fromiter(chain.from_iterable(filter(None, lists)), np.int32, int(ends[-1]))
    values = pa.Array.from_buffers(pa.int32(), len(flat), [None, pa.py_buffer(flat)])
    valid = pa.py_buffer(np.packbits(known, bitorder="little"))
    kind = pa.large_list(pa.int32())
    buffers = [valid, pa.py_buffer(ends)]
    return pa.Array.from_buffers(kind, len(lists), buffers, children=[values])


def token_lengths(examples: Sequence[Example]) -> list[int]:
    """The number of tokens of each example, without reading stored ones."""
    if isinstance(examples, StoredExamples):
        return examples.lengths
    return [len(example.input_ids) for example in examples]


def count_tokens(examples: Sequence[Example]) -> int:
    """The total number of tokens in the examples."""
    return sum(token_lengths(examples))
