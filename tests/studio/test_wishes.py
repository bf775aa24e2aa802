"""What the form asks for is what the command and the file ask for."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from lorita.cli.options import canonical_flags
from lorita.errors import SettingsError
from lorita.settings.build import build_settings, parse_yaml
from lorita.settings.schema import RunSettings
from lorita.studio.wishes import FIELDS, FORM, read_wish
from lorita.studio.words import Told
from lorita.studio.workspace import Workspace


def wish(folder: Path, data: str = "rows.csv", decimal: str = ".", **form: str) -> Any:
    whole = {"model": "m", "name": "run", **form}
    return read_wish(Workspace(folder), data, whole, decimal=decimal)


def as_typed(command: str, monkeypatch: pytest.MonkeyPatch) -> RunSettings:
    """The settings that the command makes when a shell has split it and lorita has read it."""
    from lorita.cli import make_app

    tokens = canonical_flags(shlex.split(command)[1:])
    given: dict[str, Any] = {}

    def keep(config: Any = None, **options: Any) -> RunSettings:
        given.update(options)
        raise SettingsError("seen")

    monkeypatch.setattr("lorita.settings.build.build_settings", keep)
    with pytest.raises(SettingsError, match="seen"):
        make_app(tokens)(tokens, exit_on_error=False, print_error=False)
    monkeypatch.undo()
    return build_settings(**given)


@pytest.mark.parametrize(("data", "form"), [
    ("rows.csv", {}),
    ("it's $(a) `b` \"c\" & d;.csv", {"model": "my model", "r": "4", "max_steps": "7"}),
    ("-rows.csv", {"model": "m", "others": "text_template: '--{a} #: {b}'\nuse_dora: true"}),
    ("a\nb.csv", {"learning_rate": "3e-3", "time_budget": "1h30m", "others": "speedup: false"}),
    ("ñ.csv", {"others": "target_modules: [q_proj, v_proj]\nrank_pattern: {q_proj: 4}"}),
    ("x", {"others": "compare_prompt: ['a, b', '-c', '']\ninit_lora_weights: gaussian"}),
    ("x", {"others": "load_best_model_at_end: true\neval_steps: 2\nlayers_to_transform: 0,1"}),
    ("x", {"others": "init_lora_weights: true\nproof: no\nrepetition_penalty: null"}),
])  # fmt: skip
def test_command_and_file_mean_the_form(
    data: str, form: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = wish(tmp_path / "mis runs", data, **form)
    assert as_typed(found.command(), monkeypatch) == found.settings
    assert build_settings(**parse_yaml(found.yaml(), "run.yaml")) == found.settings


@pytest.mark.parametrize(("form", "key"), [
    ({"model": " "}, "no_model"),
    ({"name": ""}, "bad_name"),
    ({"name": "../x"}, "bad_name"),
    ({"name": "a/b"}, "bad_name"),
    ({"name": ".hidden"}, "bad_name"),
    ({"name": "studio"}, "bad_name"),
    ({"name": "taken"}, "name_taken"),
    ({"others": "just words"}, "others_not_lines"),
    ({"others": "a: &x [1]\nb: *x"}, "others_not_lines"),
    ({"others": "r: 4"}, "own_field"),
    ({"others": "lora_rank: 4"}, "own_field"),
    ({"others": "output_dir: /tmp/x"}, "kept_by_page"),
    ({"others": "trust-remote-code: true"}, "command_only"),
    ({"others": "map_row: x.py:f"}, "command_only"),
    ({"others": "push_to_hub: true"}, "command_only"),
])  # fmt: skip
def test_what_the_page_explains(form: dict[str, str], key: str, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(Told) as told:
        wish(tmp_path, **form)
    assert told.value.key == key


@pytest.mark.parametrize("form", [
    {"r": "0"}, {"r": "many"}, {"learning_rate": "1,5"}, {"time_budget": "soon"},
    {"others": "use_dorra: true"}, {"max_length": "1"}, {"seed": "-1"},
])  # fmt: skip
def test_impossible_settings(form: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        wish(tmp_path, **form)


def test_a_decimal_comma_where_the_page_writes_one(tmp_path: Path) -> None:
    assert wish(tmp_path, decimal=",", learning_rate="0,02").settings.learning_rate == 0.02


def test_every_field_is_an_option() -> None:
    assert set(FIELDS) <= set(RunSettings.model_fields) and set(FIELDS) < set(FORM)
