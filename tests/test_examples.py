"""Every example runs."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from lorita.settings.build import build_settings
from tests.command import environment

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_script(script: Path, llama: Path, tmp_path: Path) -> None:
    if "trl" in script.name and importlib.util.find_spec("trl") is None:
        pytest.skip("TRL is not installed")
    run = tmp_path / "run"
    command = [sys.executable, str(script), "--model", str(llama), "--output-dir", str(run)]
    done = subprocess.run(
        [*command, "--max-steps", "2"], capture_output=True, text=True, env=environment(),
        timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(run.rglob("adapter_model.safetensors"))


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_settings_file(file: Path) -> None:
    assert build_settings(file).model
