"""``map_row``: a user-supplied function that changes each row before its format is read."""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any, TypeAlias

from lorita.data.origin import Origin, Part
from lorita.data.row_errors import Problems
from lorita.data.sources.named_code import CodeFile, NamedCode, named_code
from lorita.data.sources.python_rows import as_table
from lorita.data.sources.source import Source
from lorita.errors import DataError

MapRow: TypeAlias = Callable[[dict[str, Any]], Any]
"""Takes a row; returns a row, a text, or None to drop the row."""


def find_function(name: str, code: NamedCode | None = None) -> MapRow:
    """The function named by ``module.py:function`` or ``package.module:function``; its code is run.

    ``code`` is what ``named_code`` found, so that what was looked at is what is run. Raises
    ``DataError`` if the module cannot be loaded or has no such function.
    """
    code = code or named_code(name)
    place, attribute = code.place, code.function
    try:
        module = _run_file(code.files[0]) if code.is_file else _import(place)
    except Exception as error:  # user code runs here
        said = f"{type(error).__name__}: {error}"
        raise DataError(f"map_row: {place} cannot be loaded ({said})") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        there = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise DataError(
            f"map_row: {place} has no function {attribute!r}",
            hint=f"It defines {', '.join(there)}." if there else None,
        )
    return function  # type: ignore[no-any-return]


def _run_file(file: CodeFile) -> Any:
    """Run the source that was read. A compiled copy in ``__pycache__`` could say something else."""
    module = ModuleType(file.path.stem)
    module.__file__ = str(file.path)
    exec(compile(file.content, str(file.path), "exec"), module.__dict__)
    return module


def _import(name: str) -> Any:
    """Import a module from its source, not from compiled copies beside it, which could differ."""
    before = sys.pycache_prefix, sys.dont_write_bytecode
    with tempfile.TemporaryDirectory(prefix="lorita-") as nothing:
        sys.pycache_prefix, sys.dont_write_bytecode = nothing, True
        try:
            return importlib.import_module(name)
        finally:
            sys.pycache_prefix, sys.dont_write_bytecode = before


def map_rows(source: Source, function: MapRow, name: str) -> Source:
    """A source with ``function`` applied to every row; the new rows are held in memory.

    ``name`` is what messages call the function. Raises ``DataError`` naming the rows for which it
    fails or returns the wrong type.
    """
    problems = Problems(source.origin)
    kept: list[dict[str, Any]] = []
    for number in range(len(source.rows)):
        cells = source.cells([number])
        try:
            row = function({column: values[0] for column, values in cells.items()})
        except Exception as error:  # user code
            problems.add(number, f"map_row {name}: {type(error).__name__}: {error}")
            continue
        if isinstance(row, str):
            row = {"text": row}
        if isinstance(row, Mapping):
            kept.append(dict(row))
        elif row is not None:
            found = type(row).__name__
            problems.add(number, f"map_row {name} returned {found}; expected a dict, a str or None")
    problems.raise_any()
    if not kept:
        raise DataError(f"{source.origin}: map_row {name} dropped every row")
    whole = len(kept) == len(source.rows)
    origin = source.origin if whole else Origin((Part(f"{source.origin} ({name})", len(kept)),))
    left = len(source.rows) - len(kept)
    notes = source.notes if whole else (*source.notes, f"map_row {name} dropped {left:,} rows")
    table, nested = as_table(kept, f"map_row {name}")
    return replace(source, rows=table, origin=origin, notes=notes, json_columns=nested)
