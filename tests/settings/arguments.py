"""Write ``lorita/settings/arguments.py``, the types of the options in Python calls.

    python -m tests.settings.arguments

Type checkers need them written out; they follow from ``RunSettings``, and a test compares them.
"""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

from lorita.settings import types as kinds
from lorita.settings.durations import Seconds
from lorita.settings.schema import RunSettings
from lorita.settings.token_lists import Tokens

FILE = Path(__file__).parents[2] / "src/lorita/settings/arguments.py"

HEAD = '''"""The options of a run as arguments of Python calls, for type checkers and editors.

Written by ``python -m tests.settings.arguments`` from ``schema.py``: change that, not this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict


class Table(Protocol):
    """A table of datasets, pandas or another library."""

    @property
    def shape(self) -> Any:
        """Rows and columns."""


Rows = Sequence[Mapping[str, Any]] | Sequence[Sequence[Any]] | Mapping[str, Sequence[Any]] | Table
"""The rows themselves instead of the names of files."""


class Options(TypedDict, total=False):
    """Arguments of ``lorita.train``; ``RunSettings`` says what each means."""

'''
WIDER = {
    kinds.Names: "str | Sequence[str]",
    Tokens: "str | Path | Sequence[str]",
    kinds.Trackers: "str | Sequence[str]",
    kinds.Texts: "str | Path | Sequence[str | Path]",
    kinds.Layers: "str | Sequence[int]",
    kinds.Targets: "str | Sequence[str]",
    kinds.Invocation: "str | Sequence[int]",
    kinds.Ranks: "str | Mapping[str, int]",
    kinds.Alphas: "str | Mapping[str, float]",
    Seconds: "float | str",
    Path: "str | Path",
}
"""What Python code may pass where the settings then hold something else."""
OBJECTS = {
    "model": "Path",
    "data": "Rows",
    "eval_data": "Path | Rows",
    "map_row": "Callable[[dict[str, Any]], Any]",
    "chat_template": "Path",
    "resume_from_checkpoint": "Path",
}
"""Options for which Python code may pass an object (``build.py``)."""


def in_words(annotation: Any) -> str:
    """A type as source text."""
    if annotation in WIDER:
        return WIDER[annotation]
    if typing.get_origin(annotation) is Annotated:
        return in_words(annotation.__origin__)
    if typing.get_origin(annotation) is Literal:
        words = ", ".join(f'"{word}"' for word in typing.get_args(annotation))
        return f"Literal[{words}]"
    if annotation is types.NoneType:
        return "None"
    if kinds.is_union(annotation):
        return " | ".join(map(in_words, typing.get_args(annotation)))
    return str(annotation.__name__)


def source() -> str:
    """The file's text, before formatting."""
    hints = typing.get_type_hints(RunSettings, include_extras=True)
    lines = []
    for name in RunSettings.model_fields:
        told = in_words(hints[name])
        if name in OBJECTS:
            plain, optional = told.removesuffix(" | None"), told.endswith(" | None")
            told = f"{plain} | {OBJECTS[name]}" + " | None" * optional
        lines.append(f"    {name}: {told}")
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    FILE.write_text(source())
