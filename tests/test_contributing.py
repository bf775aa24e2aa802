"""The map of the code in CONTRIBUTING.md, and every path and name in the docs, lead somewhere."""

from __future__ import annotations

import configparser
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

import lorita

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benchmarks/LOG.md",
]
FILES = ("lorita.json",)
"""Names that look like a module of lorita and are files in a run folder."""


def exists(path: str) -> bool:
    """Whether the path is in the repository; NAME in it stands for any name."""
    return any(ROOT.glob(path.strip("/").replace("NAME", "*")))


def paths(page: Path) -> list[str]:
    """The paths from the root of the repository that a page names, in prose or in a command."""
    text = re.sub(r"\]\([^)]*\)", "]", page.read_text(encoding="utf-8"))  # links: test_docs.py
    found = re.findall(r"(?<![\w./-])(?:src|tests|docs|examples|benchmarks)/[\w./-]*\w", text)
    return sorted(set(found))


def modules(page: Path) -> list[str]:
    """The dotted names of lorita's modules and public names that a page uses."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"(?<![\w./-])lorita(?:\.[A-Za-z_]\w*)+", text)
    return sorted(set(found) - set(FILES))


def is_name(name: str) -> bool:
    """Whether it is a public name of lorita, a module, or something in a module."""
    if name.split(".")[1] in lorita.__all__:
        return True
    parent = name.rpartition(".")[0]
    if find_spec(parent) is None:
        return False
    return find_spec(name) is not None if hasattr(__import__(parent), "__path__") else True


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([\w./-]*[/.][\w./-]+)`", GUIDE))))
def test_every_path_in_the_guide_exists(path: str) -> None:
    assert path.startswith((".venv", "build/")) or exists(path)  # made by make


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_in_the_docs_exists(page: Path) -> None:
    assert not [path for path in paths(page) if not exists(path)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_in_the_docs_exists(page: Path) -> None:
    assert not [name for name in modules(page) if not is_name(name)]


def test_the_map_is_the_import_contract() -> None:
    """Every folder has a line, and the levels are those that ``.importlinter`` enforces."""
    levels: dict[str, set[str]] = {}
    for level, path in re.findall(r"^\| (\d+) \| `src/lorita/(\w+)(?:\.py)?` \|", GUIDE, re.M):
        levels.setdefault(level, set()).add(f"lorita.{path}")
    contract = configparser.ConfigParser()
    contract.read(ROOT / ".importlinter")
    layers = contract["importlinter:contract:direction"]["layers"].split("\n")
    assert list(levels.values()) == [set(line.split(" | ")) for line in layers if line]
    packages = {path.parent.name for path in (ROOT / "src/lorita").glob("*/__init__.py")}
    assert packages <= {name.split(".")[1] for names in levels.values() for name in names}
