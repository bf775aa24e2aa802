"""An Arrow file on disk as a table that is read in portions.

It has what reading rows takes of ``datasets.Dataset`` and becomes one when it is asked for more:
importing ``datasets`` takes longer than reading a small file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

MOST_RUNS = 64
"""Stretches of consecutive rows that are read one by one; ``datasets`` is made for more."""


class ArrowTable:
    """The table in the file ``path``, or some of its ``columns``, mapped into memory."""

    def __init__(self, path: Path, columns: Sequence[str] | None = None) -> None:
        self._path, self._columns = path, columns

    @cached_property
    def data(self) -> pa.Table:
        """The table as Arrow knows it."""
        import pyarrow as pa

        table = pa.ipc.open_stream(pa.memory_map(str(self._path))).read_all()
        return table if self._columns is None else table.select(list(self._columns))

    @property
    def column_names(self) -> list[str]:
        """The columns, in their order."""
        return list(self.data.column_names)

    def __len__(self) -> int:
        return int(self.data.num_rows)

    def select_columns(self, columns: Sequence[str]) -> ArrowTable:
        """The same rows with only these columns."""
        return ArrowTable(self._path, columns)

    def __getitem__(self, key: Any) -> Any:
        """Rows as a dict of columns, for several numbers; anything else as ``datasets`` does."""
        if isinstance(key, slice):
            key = range(*key.indices(len(self)))
        runs = _runs(key) if isinstance(key, (list, range)) else []
        if not 0 < len(runs) <= MOST_RUNS or runs[0].start < 0 or runs[-1].stop > len(self):
            return self._whole[key]
        import pyarrow as pa

        parts = [self.data.slice(run.start, len(run)) for run in runs]
        return pa.concat_tables(parts).to_pydict()

    def iter(self, batch_size: int) -> Iterator[dict[str, list[Any]]]:
        """All rows in their order, in portions, each a dict of columns."""
        for first in range(0, len(self), batch_size):
            yield self.data.slice(first, batch_size).to_pydict()

    @cached_property
    def _whole(self) -> Dataset:
        from datasets import Dataset

        table = Dataset.from_file(str(self._path))
        return table if self._columns is None else table.select_columns(list(self._columns))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._whole)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # pickle and copy ask for these before there is anything
            raise AttributeError(name)
        return getattr(self._whole, name)

    def as_dataset(self) -> Dataset:
        """The same table for ``datasets``' own functions."""
        return self._whole


def _runs(numbers: Sequence[int]) -> list[range]:
    """The numbers as stretches of consecutive ones; stops where there are too many of them."""
    if isinstance(numbers, range) and numbers.step == 1:
        return [numbers] if numbers else []
    runs: list[range] = []
    for number in numbers:
        if runs and number == runs[-1].stop:
            runs[-1] = range(runs[-1].start, number + 1)
        elif len(runs) > MOST_RUNS:
            break
        else:
            runs.append(range(number, number + 1))
    return runs
