"""What training sees of a row: token ids, with the targets marked.

Many rows are kept on disk (``store.py``) and come one by one as they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

IGNORE = -100
"""The label of a token that is no target, as in torch and transformers."""


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
        """Tokens that are predicted: the first one never is."""
        first = bool(self.labels) and self.labels[0] != IGNORE
        return len(self.labels) - self.labels.count(IGNORE) - first


@dataclass(frozen=True)
class Tokenized:
    """All rows as tokens, and what became of those that were too long.

    ``targets_cut`` counts the trained tokens among ``tokens_cut``; the tokens of rows that were
    dropped are in both.
    """

    examples: Sequence[Example]
    rows_cut: int
    tokens_cut: int
    targets_cut: int = 0
    rows_split: int = 0
    rows_dropped: int = 0


class StoredExamples(Sequence[Example]):
    """Examples on disk. One that is asked for is read; nothing else is held in memory."""

    def __init__(self, table: Dataset) -> None:
        self._table = table

    @cached_property
    def lengths(self) -> list[int]:
        """The tokens of each example, without reading them."""
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
    """How examples are stored. ``labels`` are null where every token is a target."""
    import pyarrow as pa

    ids = pa.large_list(pa.int32())
    return pa.schema({"input_ids": ids, "labels": ids, "row": pa.int64()})


def example_batch(examples: Sequence[Example]) -> pa.RecordBatch:
    """Examples as they are stored."""
    import pyarrow as pa

    labels = [None if e.labels == e.input_ids else e.labels for e in examples]
    schema = example_schema()
    columns = [[e.input_ids for e in examples], labels, [e.row for e in examples]]
    arrays = [pa.array(c, type=f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.record_batch(arrays, schema=schema)


def token_lengths(examples: Sequence[Example]) -> list[int]:
    """The tokens of each example."""
    if isinstance(examples, StoredExamples):
        return examples.lengths
    return [len(example.input_ids) for example in examples]


def count_tokens(examples: Sequence[Example]) -> int:
    """All tokens of the examples."""
    return sum(token_lengths(examples))
