"""A settings file cannot fill the memory or hang: it may come with somebody else's run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from lorita.errors import SettingsError
from lorita.settings.build import read_yaml
from tests.command import write

BOMB = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefghij", "bcdefghijk", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "aliases"),
        ("a: &a [*a]\n", "aliases"),
        ("base: &b {r: 4}\nmore: {<<: *b}\n", "aliases"),
        ("a: " + "[" * 100_000, "nested too deeply"),
        ("a: " + "{b: " * 100_000, "nested too deeply"),
        ("- " * 50_000 + "a\n", "nested too deeply"),
        ("a: " + "x" * 2**20, "longer than 1 MB"),
    ],
)
def test_what_unfolds_or_is_too_large_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        read_yaml(write(tmp_path / "run.yaml", text))
    assert len(str(caught.value)) < 500


def test_an_anchor_without_an_alias_is_harmless(tmp_path: Path) -> None:
    assert read_yaml(write(tmp_path / "run.yaml", "r: &a 4\n")) == {"r": 4}


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes")
@pytest.mark.parametrize("kind", ["a pipe", "a device", "a folder"])
def test_what_is_no_file_is_refused_and_not_waited_for(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(SettingsError, match="not a file"):
        read_yaml(path)
