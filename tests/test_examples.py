"""Every example runs."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
from pathlib import Path

import pytest

from lorita.settings.build import build_settings
from tests.command import python

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_script(script: Path, llama: Path, tmp_path: Path) -> None:
    if "trl" in script.name and importlib.util.find_spec("trl") is None:
        pytest.skip("TRL is not installed")
    run = tmp_path / "run"
    done = python(script, "--model", llama, "--output-dir", run, "--max-steps", 2)
    assert done.code == 0, done.err
    assert list(run.rglob("adapter_model.safetensors"))
    if "speedup" in script.read_text(encoding="utf-8"):
        assert "2 training calls by the fast step, 0 without it" in done.out


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_scripts_use_public_names_only(script: Path) -> None:
    names = [name for name in imports(script) if name.partition(".")[0] == "lorita"]
    assert names == ["lorita"]


def imports(script: Path) -> list[str]:
    """The modules that a script imports, by their full names."""
    found: list[str] = []
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
    return found


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_settings_file(file: Path) -> None:
    assert build_settings(file).model


SCRIPTS = sorted([*(EXAMPLES.parent / "benchmarks").glob("*.py"), *EXAMPLES.glob("*.py")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_what_scripts_import_exists(script: Path) -> None:
    """Benchmarks take minutes, so no test runs them; a name that has moved is found here."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "lorita":
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")


@pytest.mark.parametrize("side", ["peft, lorita's settings", "lorita, its defaults"])
def test_the_sides_of_the_clock(side: str, llama: Path, tmp_path: Path) -> None:
    """The settings of each follow from lorita's own rules, which change."""
    script, out = EXAMPLES.parent / "benchmarks" / "clock_side.py", tmp_path / "out"
    done = python(script, side, llama, out, HF_HUB_OFFLINE="1")
    assert done.code == 0, done.err
    found = json.loads(done.out.splitlines()[-1])
    phases = list(found["phases"].values())
    assert phases == sorted(phases) and len(phases) == 5
    assert (out / "adapter_model.safetensors").is_file()
