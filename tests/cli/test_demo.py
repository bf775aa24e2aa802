"""What ``lorita demo`` says before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorita.cli import run


@pytest.mark.parametrize(("language", "parts"), [
    ("es", ("Están en español los prompts", "del programa, en inglés", "español pobre")),
    ("en", ()),
])  # fmt: skip
def test_what_is_spanish(
    language: str,
    parts: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lorita.cli.demo.show_run", lambda events, settings: None)
    assert run(["demo", "--language", language, "--output-dir", str(tmp_path / "demo")]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert all(part in said for part in parts)
    assert bool(said) is bool(parts)
