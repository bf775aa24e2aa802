"""The shape of the code in figures: ``python -m tests.structure`` prints them.

Floors and chains are counted over imports that run, those inside functions included; imports for
type checkers alone are not among them. A row's way is followed while it happens: one row of a CSV
file becomes tokens, and every change from one file of lorita to another is noted.
"""

from __future__ import annotations

import ast
import configparser
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import grimp

import lorita

PACKAGE = Path(lorita.__file__).parent
ROOT = PACKAGE.parents[1]


@cache
def imports() -> dict[str, frozenset[str]]:
    """Every module of lorita, and the modules that it imports."""
    graph = grimp.build_graph("lorita", cache_dir=None, exclude_type_checking_imports=True)
    return {
        module: frozenset(graph.find_modules_directly_imported_by(module))
        for module in graph.modules
    }


def cycles() -> list[str]:
    """Modules that can be reached from themselves."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        left = list(imports()[start])
        while left:
            module = left.pop()
            if module not in seen:
                seen.add(module)
                left += imports()[module]
        return seen

    return sorted(module for module in imports() if module in reached(module))


@cache
def floor(module: str) -> int:
    """1 for a module that imports nothing of lorita, else one above the highest it imports."""
    return 1 + max(map(floor, imports()[module]), default=0)


def longest_chain() -> list[str]:
    """The modules of a longest chain of imports, from the top down."""
    chain = [max(imports(), key=floor)]
    while below := imports()[chain[-1]]:
        chain.append(max(sorted(below), key=floor))
    return chain


def contract_layers() -> list[str]:
    """The lines of the import contract's layers, and of its exceptions."""
    contract = configparser.ConfigParser()
    contract.read(ROOT / ".importlinter")
    section = contract["importlinter:contract:direction"]
    lines = section["layers"] + "\n" + section.get("ignore_imports", "")
    return [line.strip() for line in lines.splitlines() if line.strip()]


@dataclass(frozen=True)
class Definition:
    """A function or class of the source, with its place and length in lines."""

    file: Path
    name: str
    lines: int
    public: bool
    is_class: bool
    docstring: str | None

    def __str__(self) -> str:
        return f"{self.file.relative_to(PACKAGE)}: {self.name} ({self.lines} lines)"


def definitions() -> Iterator[Definition]:
    """All functions and classes of the package, those inside others included."""

    def walk(file: Path, node: ast.AST, owner: str, public: bool) -> Iterator[Definition]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                seen = public and not child.name.startswith("_")
                name = f"{owner}{child.name}"
                lines = (child.end_lineno or child.lineno) - child.lineno + 1
                doc = ast.get_docstring(child)
                is_class = isinstance(child, ast.ClassDef)
                yield Definition(file, name, lines, seen, is_class, doc)
                yield from walk(file, child, f"{name}.", seen and is_class)
            else:
                yield from walk(file, child, owner, public)

    for file in sorted(PACKAGE.rglob("*.py")):
        yield from walk(file, ast.parse(file.read_text(encoding="utf-8")), "", True)


def way_of_a_row(folder: Path) -> list[tuple[str, str]]:
    """The changes from file to file while one CSV row becomes tokens, as (from, to).

    A call into another file is one, and so is the return from it.
    """
    from lorita.runs.prepare import prepare
    from lorita.settings.build import build_settings
    from tests import tiny

    model = tiny.save_model(folder / "model")
    data = tiny.write_csv(folder / "rows.csv", tiny.make_texts(1))
    settings = build_settings(
        model=str(model), data=str(data), text_field="prompt", output_dir=folder / "run"
    )
    prepare(settings)  # so that nothing is imported on the way
    data.write_text(data.read_text().replace("act", "play"), encoding="utf-8")
    places: list[str] = []

    def note(frame: FrameType, event: str, argument: Any) -> None:
        shown: FrameType | None = frame if event == "call" else frame.f_back
        while shown is not None and not shown.f_code.co_filename.startswith(str(PACKAGE)):
            shown = shown.f_back
        if shown is not None and event in ("call", "return"):
            place = shown.f_code.co_filename
            if not places or places[-1] != place:
                places.append(place)

    sys.setprofile(note)
    try:
        prepare(settings)
    finally:
        sys.setprofile(None)
    names = [str(Path(p).relative_to(PACKAGE).with_suffix("")).replace("/", ".") for p in places]
    return list(pairwise(names))


def main() -> None:
    import tempfile

    import datasets

    with tempfile.TemporaryDirectory() as place:
        datasets.config.HF_DATASETS_CACHE = place
        way = way_of_a_row(Path(place))
    climbs = [step for step in way if floor(f"lorita.{step[1]}") > floor(f"lorita.{step[0]}")]
    root = [p for p in PACKAGE.glob("*.py") if p.name not in ("__init__.py", "__main__.py")]
    chain = longest_chain()
    print(f"modules at the root       {len(root)}")
    print(f"floors                    {len(chain)}")
    print(f"longest chain of imports  {len(chain) - 1}: {' > '.join(chain)}")
    print(f"lines of the contract     {len(contract_layers())}")
    print(f"a row's way               {len(way)} changes of file, {len(climbs)} of them upwards")


if __name__ == "__main__":
    main()
