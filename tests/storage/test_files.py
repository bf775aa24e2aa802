"""Lines are appended to files, never through links."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorita.errors import OutputError
from lorita.storage.files import append_line, write_atomic


def test_a_line_is_appended(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    append_line(log, "one")
    append_line(log, "two")
    assert log.read_text() == "one\ntwo\n"


@pytest.mark.parametrize("there", [True, False])
def test_nothing_is_appended_through_a_link(there: bool, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    if there:
        elsewhere.write_text("theirs\n")
    link = tmp_path / "log.jsonl"
    link.symlink_to(elsewhere)
    with pytest.raises(OutputError, match="a symbolic link, so nothing is written there"):
        append_line(link, "one")
    assert elsewhere.exists() == there
    assert not there or elsewhere.read_text() == "theirs\n"


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("theirs")
    link = tmp_path / "run.yaml"
    link.symlink_to(elsewhere)
    write_atomic(link, "ours")
    assert (link.is_symlink(), link.read_text(), elsewhere.read_text()) == (False, "ours", "theirs")
