"""``map_row``: a user-supplied function that changes each row before its format is read."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from lorita.data.origin import Origin, Part
from lorita.data.row_errors import Problems
from lorita.data.sources.python_rows import as_table
from lorita.data.sources.source import Source
from lorita.errors import DataError

MapRow: TypeAlias = Callable[[dict[str, Any]], Any]
"""Takes a row; returns a row, a text, or None to drop the row."""


def find_function(name: str) -> MapRow:
    """The function named by ``module.py:function`` or ``package.module:function``.

    Raises ``DataError`` if the module cannot be loaded or has no such function.
    """
    place, colon, attribute = name.rpartition(":")
    if not colon or not place or not attribute:
        raise DataError(f"map_row {name!r}: use the form module.py:function")
    try:
        module = _load_file(Path(place)) if place.endswith(".py") else _import(place)
    except DataError:
        raise
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


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise DataError(f"map_row: {path}: file not found")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _import(name: str) -> Any:
    if name == "__main__":
        raise DataError(
            "map_row was a function defined in a script or notebook",
            hint="Pass it again: lorita.train(..., map_row=function).",
        )
    return importlib.import_module(name)


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
