"""The help shows real types and whole flags; values are still passed on as typed."""

from __future__ import annotations

import subprocess
import sys
import typing

import pytest

from lorita.cli import COMMANDS, EXPORTS, run
from lorita.cli.help import full_help
from lorita.cli.options import Quantize
from lorita.errors import SettingsError
from lorita.export.gguf.number_formats import FORMATS
from lorita.settings.schema import RunSettings
from lorita.settings.types import is_switch

LINES = {
    **{f"lorita.cli.{name}": line for name, line in COMMANDS.items() if name != "export"},
    **{f"lorita.cli.export_{name.replace('-', '_')}": line for name, line in EXPORTS.items()},
}


def shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, *words: str
) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    assert run([*words, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("module", LINES)
def test_a_command_starts_with_its_line_in_the_list(module: str) -> None:
    assert full_help(module).split("\n\n")[0] == LINES[module]


@pytest.mark.parametrize(("words", "part"), [
    (("train",), "saved beside the adapter"),
    (("sweep",), "separated by semicolons"),
    (("export", "gguf"), "must match those of base and adapter"),
])  # fmt: skip
def test_the_whole_docstring_is_shown(
    words: tuple[str, ...],
    part: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert part in shown(monkeypatch, capsys, 200, *words)


@pytest.mark.parametrize("width", [80, 120])
def test_no_flag_is_broken_in_two(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shown(monkeypatch, capsys, width, "train").split()
    for name, field in RunSettings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in words
        if is_switch(field.annotation):
            assert f"--no-{name.replace('_', '-')}" in words


def test_types(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(shown(monkeypatch, capsys, 200, "train").split())
    for part in (
        "--r INT ",
        "--learning-rate FLOAT ",
        "--output-dir PATH ",
        "--text-field STR ",
        "--data STR ",
        "--target-modules NAME,...|REGEX ",
        "--rank-pattern NAME=INT,... ",
        "[choices: text, prompt-completion, messages, sharegpt, alpaca]",
        "--init-lora-weights NAME ",
        "[default: true]",
        "[default: 0.002]",
    ):
        assert part in text
    assert "[default: false]" not in text and "[default: None]" not in text


def test_types_of_a_sweep(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = " ".join(shown(monkeypatch, capsys, 200, "sweep").split())
    for part in (
        "--r INT,... ",
        "--bias CHOICE,... ",
        "--rank-pattern NAME=INT,...;... ",
        "--max-length INT ",
        "--logging-steps INT ",
    ):
        assert part in text
    assert "--resume " not in text  # a sweep continues its runs anyway
    assert "--resume-from-checkpoint" not in text


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The options that reach the settings from the command line."""
    found: dict[str, object] = {}

    def follow(config: object, **options: object) -> None:
        found.update(options)
        raise SettingsError("enough")

    monkeypatch.setattr("lorita.settings.build.build_settings", follow)
    return found


def test_a_switch_takes_no_value(given: dict[str, object]) -> None:
    switches = [n for n, field in RunSettings.model_fields.items() if is_switch(field.annotation)]
    assert "load_best_model_at_end" in switches
    for prefix, value in (("--", True), ("--no-", False)):
        assert run(["train", *(f"{prefix}{name.replace('_', '-')}" for name in switches)]) == 2
        assert given == dict.fromkeys(switches, value)


def test_values_are_passed_as_typed(given: dict[str, object]) -> None:
    flags = "--lora_rank 4,16 --output-dir ~/runs --format OpenAI --bias some --no-speedup"
    lists = ["--data", "a,b.csv", "--data=c.csv", "--target-modules", "q_proj,v_proj"]
    assert run(["train", *flags.split(), *lists]) == 2
    assert given == {
        "r": "4,16",
        "output_dir": "~/runs",
        "format": "OpenAI",
        "bias": "some",
        "speedup": False,
        "data": ["a,b.csv", "c.csv"],
        "target_modules": "q_proj,v_proj",
    }


def test_the_number_formats_are_those_of_the_export() -> None:
    assert typing.get_args(typing.get_args(Quantize)[0]) == tuple(FORMATS)


def test_only_the_used_command_is_imported() -> None:
    code = (
        "import sys, lorita.cli; lorita.cli.run(['train', '--help']); "
        "print([m for m in sys.modules if m.startswith('lorita.cli.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in COMMANDS:
        imported = f"'lorita.cli.{name}'" in done.stdout.splitlines()[-1]
        assert imported == (name == "train")
