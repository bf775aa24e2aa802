"""A command that lorita advises is safe to copy: names in it are quoted for the shell."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import lorita
from lorita.cli import COMMANDS, run
from tests.runs.report.made import make_run

ADVICE = re.compile(rf"\blorita ({'|'.join(COMMANDS)})( [a-z-]+)* $")
"""What stands before a name. A sentence goes on with a verb."""
SENTENCES = ("needs ",)


def unquoted(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        for before, value in zip(node.values, node.values[1:], strict=False):
            if not (isinstance(before, ast.Constant) and isinstance(value, ast.FormattedValue)):
                continue
            text = str(before.value)
            code = ast.unparse(value.value)
            if ADVICE.search(text) and not text.endswith(SENTENCES) and "shlex." not in code:
                yield f"{text}{{{code}}}"


def test_the_check_itself() -> None:
    assert list(unquoted('x = f"Page: lorita report {a.b}"'))
    assert not list(unquoted('x = f"Page: lorita report {shlex.quote(a)}"'))
    assert not list(unquoted('x = f"lorita serve needs {a}"'))


def test_names_in_commands_are_quoted() -> None:
    places = Path(lorita.__file__).parent.rglob("*.py")
    found = {path.name: list(unquoted(path.read_text(encoding="utf-8"))) for path in places}
    assert not {name: lines for name, lines in found.items() if lines}


def test_a_run_whose_name_is_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path / "a; touch $(echo planted) '")
    assert run(["runs", str(folder)]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert shlex.split(line.removeprefix("Page: ")) == ["lorita", "report", str(folder)]
