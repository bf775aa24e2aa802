"""``--json``: commands that print figures print them for other programs, too."""

from __future__ import annotations

import importlib
import inspect
import json
import typing
from pathlib import Path
from typing import Any

import pytest

from lorita.cli import COMMANDS, EXPORTS, run

NO_FIGURES = {
    "demo": "its figures are in the run: lorita runs RUN --json",
    "train": "its figures are in the run: lorita runs RUN --json",
    "generate": "prints text",
    "chat": "prints text",
    "serve": "answers in JSON over HTTP",
    "report": "prints where the page is",
    "push": "prints where the run is",
    "merge": "prints where the model is",
    "export_gguf": "prints where the file is",
    "export_ollama": "prints where the folder is",
    "export_llama_server": "prints where the folder is",
    "completion": "prints a script",
    "studio": "prints where the page is",
}
"""Commands without ``--json``, and why."""
MODULES = [
    *(name for name in COMMANDS if name != "export"),
    *(f"export_{name.replace('-', '_')}" for name in EXPORTS),
]


@pytest.mark.parametrize("name", MODULES)
def test_who_has_it(name: str) -> None:
    command = importlib.import_module(f"lorita.cli.{name}").command
    takes_it = "json" in inspect.signature(command).parameters
    assert takes_it != (name in NO_FIGURES), "give it --json, or say here why it has none"


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    assert run([str(word) for word in words]) == 0
    return json.loads(capsys.readouterr().out)


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, "doctor", "--json")
    assert found["cores"] >= 1 and found["dtype"] in ("float32", "bfloat16")
    assert 0 < found["products"]["bfloat16"]["low"] <= found["products"]["bfloat16"]["high"]
    assert {"holds", "bytes", "folder"} == found["caches"][0].keys()
    assert "torch" in found["versions"]


def test_doctor_says_that_pruning_prints_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--prune", "--json"]) == 0
    assert "--json does nothing with --prune" in capsys.readouterr().err


def test_sweep(
    llama: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words: tuple[object, ...] = (
        "sweep", llama, prompts, "--text-field", "prompt", "--max-new-tokens", 2, "--no-proof",
        "--use-cpu", "--output-dir", tmp_path / "sweep", "--json",
    )  # fmt: skip
    found = printed(capsys, *words, "--max-steps", 1, "--r", "1,2")
    saved = json.loads((tmp_path / "sweep/sweep.json").read_text())
    assert found.pop("path") == str(tmp_path / "sweep")
    assert typing.cast(list[str], found.pop("hints"))
    assert found == saved and [each["values"] for each in found["runs"]] == [{"r": 1}, {"r": 2}]
    rates = printed(capsys, *words, "--find-lr")
    assert rates == json.loads((tmp_path / "sweep/find_lr.json").read_text())
