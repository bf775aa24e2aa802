"""The house rules of CONTRIBUTING.md that can be counted."""

from __future__ import annotations

from pathlib import Path

from tests.structure import (
    PACKAGE,
    contract_layers,
    cycles,
    definitions,
    longest_chain,
)

FOLDERS = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").is_file()}


def test_the_root_holds_folders_and_the_errors() -> None:
    files = {p.name for p in PACKAGE.iterdir() if p.is_file()}
    assert files == {"__init__.py", "__main__.py", "errors.py", "py.typed"}


def test_the_contract_names_each_folder_once_and_has_no_exceptions() -> None:
    layers = contract_layers()
    named = [name.strip() for line in layers for name in line.split("|")]
    assert sorted(named) == sorted(f"lorita.{name}" for name in {*FOLDERS, "errors"})
    assert "ignore_imports" not in (PACKAGE.parents[1] / ".importlinter").read_text()


def test_no_cycles_and_no_long_chains() -> None:
    assert not cycles()
    chain = longest_chain()
    assert len(chain) - 1 <= 12, " > ".join(chain)


def long(pattern: str, most: int) -> list[str]:
    counts = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in PACKAGE.rglob(pattern)}
    return [f"{p.relative_to(PACKAGE)}: {n} lines" for p, n in counts.items() if n > most]


def test_files_and_functions_fit() -> None:
    assert not [*long("*.py", 300), *long("*.cpp", 450), *long("*.h", 450)]
    functions = (d for d in definitions() if not d.is_class)
    assert not [str(d) for d in functions if d.lines > 60]


def test_what_is_public_is_explained() -> None:
    def said(name: str, docstring: str | None) -> bool:
        words = {word.strip(".,:;`").lower() for word in (docstring or "").split()}
        return len(words - set(name.lower().replace(".", "_").split("_"))) >= 2

    missing = [d for d in definitions() if d.public and not said(d.name, d.docstring)]
    assert not [str(d) for d in missing]


def test_tests_mirror_the_package() -> None:
    """A folder of tests is a folder of the package."""
    here = Path(__file__).parent
    others = {"slow", "earlier_run", "cases", "attack", "docs"}
    folders = {p.parent.relative_to(here) for p in here.rglob("test_*.py")} - {Path()}
    assert not [f for f in folders if f.parts[0] not in others and not (PACKAGE / f).is_dir()]
