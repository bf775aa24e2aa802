"""Which files a name like ``module.py:function`` would run. They are read here, and not run."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from lorita.errors import DataError


@dataclass(frozen=True)
class CodeFile:
    """A file of code, as it was when it was read."""

    path: Path
    content: bytes

    def __str__(self) -> str:
        return f"{self.path} (sha256 {hashlib.sha256(self.content).hexdigest()})"


@dataclass(frozen=True)
class NamedCode:
    """A function by name, in a file (``module.py``) or in a module (``package.module``).

    ``files`` are those that run when it is loaded, its own last. What they import in turn is not
    among them.
    """

    place: str
    function: str
    is_file: bool
    files: tuple[CodeFile, ...]


def named_code(name: str) -> NamedCode:
    """The code of a function called ``module.py:function`` or ``package.module:function``.

    Raises ``DataError`` if the name has another form, or the file cannot be read. A module that is
    not found has no files.
    """
    place, colon, function = name.rpartition(":")
    if not colon or not place or not function:
        raise DataError(f"map_row {name!r}: use the form module.py:function")
    if place == "__main__":
        raise DataError(
            "map_row was a function defined in a script or notebook",
            hint="Pass it again: lorita.train(..., map_row=function).",
        )
    if not place.endswith(".py"):
        return NamedCode(place, function, False, tuple(_module_files(place)))
    path = Path(place).expanduser()
    try:
        file = CodeFile(path.resolve(strict=True), path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"map_row: {path}: file not found") from None
    except OSError as error:
        raise DataError(f"map_row: {path}: cannot be read ({error.strerror or error})") from None
    return NamedCode(place, function, True, (file,))


def _module_files(name: str) -> list[CodeFile]:
    """The files of a module and of the packages around it, found without importing any of them."""
    files = []
    places: Sequence[str] | None = None
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        spec = _spec(".".join(parts[:count]), places)
        if spec is None:
            break
        if spec.origin is not None and Path(spec.origin).is_file():
            path = Path(spec.origin)
            files.append(CodeFile(path.absolute(), path.read_bytes()))
        if spec.submodule_search_locations is None:
            break
        places = list(spec.submodule_search_locations)
    return files


def _spec(name: str, places: Sequence[str] | None) -> ModuleSpec | None:
    """Where a module is: as it was imported, or where it would be imported from."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        return getattr(loaded, "__spec__", None)
    for finder in sys.meta_path if places is None else (PathFinder,):
        find = getattr(finder, "find_spec", None)
        try:
            spec: ModuleSpec | None = find(name, places) if find is not None else None
        except (ImportError, AttributeError, ValueError):
            continue
        if spec is not None:
            return spec
    return None
