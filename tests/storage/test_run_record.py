"""``lorita.json``: read as it was written; one that is damaged is one clear message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lorita.errors import UserError
from lorita.storage.run_folder import RECORD_FILE
from lorita.storage.run_record import read_record

EARLIER = Path(__file__).parents[1] / "runs/earlier_run/run" / RECORD_FILE


def values() -> dict[str, Any]:
    return dict(json.loads(EARLIER.read_text(encoding="utf-8")))


def written(folder: Path, content: Any) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / RECORD_FILE).write_text(text, encoding="utf-8")
    return folder


def test_written_as_it_was_read(tmp_path: Path) -> None:
    record = read_record(EARLIER.parent)
    assert record is not None
    record.save(tmp_path)
    assert known(json.loads((tmp_path / RECORD_FILE).read_bytes())) == known(values())


def known(found: Any) -> Any:
    """Without what is None: figures that runs of earlier versions did not record."""
    if not isinstance(found, dict):
        return found
    return {name: known(value) for name, value in found.items() if value is not None}


def test_a_plain_folder_has_none(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None


def test_what_older_ones_lack_and_what_newer_ones_add(tmp_path: Path) -> None:
    old = values()
    del old["base"]["fingerprint"], old["figures"]["training_seconds"], old["seed"]
    record = read_record(written(tmp_path, old | {"something": "new"}))
    assert record is not None
    assert record.base.fingerprint is None and record.figures.training_seconds is None


DAMAGED: dict[str, tuple[Any, str]] = {
    "no JSON": ("{", "not valid JSON"),
    "a list": ([], "expected a JSON object"),
    "a figure that is text": (
        values() | {"figures": values()["figures"] | {"final_training_loss": "low"}},
        "figures.final_training_loss = 'low': input should be a valid number",
    ),
    "no base": ({k: v for k, v in values().items() if k != "base"}, "base is missing"),
    "a newer format": (values() | {"format": 2}, "newer lorita"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged(case: str, tmp_path: Path) -> None:
    content, said = DAMAGED[case]
    with pytest.raises(UserError, match=said) as caught:
        read_record(written(tmp_path, content))
    assert len(caught.value.problems) == 1 and "\n" not in caught.value.problems[0]
