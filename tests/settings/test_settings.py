"""One definition per option: YAML, Python and flags mean the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorita.cli.options import canonical_flags
from lorita.errors import SettingsError
from lorita.settings.aliases import ALIASES
from lorita.settings.build import build_settings, to_yaml
from lorita.settings.schema import RunSettings


def test_yaml_round_trip(tmp_path: Path) -> None:
    settings = build_settings(
        model="m",
        data=["a, b.csv", "c.csv"],
        target_modules="q_proj,v_proj",
        compare_prompt="One, two: three. ",
        learning_rate="3e-2",
        rank_pattern="q_proj=2,v_proj=4",
        layers_to_transform="0,1",
        init_lora_weights="gaussian",
    )
    (tmp_path / "run.yaml").write_text(to_yaml(settings))
    assert dict(build_settings(tmp_path / "run.yaml")) == dict(settings)
    assert settings.data == ["a, b.csv", "c.csv"]
    assert settings.compare_prompt == ["One, two: three. "]
    assert settings.target_modules == ["q_proj", "v_proj"]
    assert settings.rank_pattern == {"q_proj": 2, "v_proj": 4}


def test_arguments_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("model-name-or-path: m\ndata: x.csv\nlora_rank: 3\nlearning_rate: 3e-2\n")
    assert build_settings(file).r == 3
    assert build_settings(file).learning_rate == 0.03
    assert build_settings(file, r=5).r == 5


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("q_proj", ["q_proj"]),
        ("q_proj,v_proj", ["q_proj", "v_proj"]),
        ("all-linear", "all-linear"),
        (r".*\.(q|v)_proj", r".*\.(q|v)_proj"),
        (["a", "b"], ["a", "b"]),
    ],
)
def test_ways_to_name_targets(given: object, meant: object) -> None:
    assert build_settings(model="m", data="d", target_modules=given).target_modules == meant


def test_aliases_lead_to_options_and_hide_none() -> None:
    assert set(ALIASES.values()) <= set(RunSettings.model_fields)
    assert not set(ALIASES) & set(RunSettings.model_fields)


def test_flags_of_other_tools() -> None:
    given = ["train", "--lora_rank", "4", "--cutoff-len=9", "--no-speedup", "--max_steps", "--what"]
    assert canonical_flags(given) == [
        "train", "--r", "4", "--max-length=9", "--no-speedup", "--max-steps", "--what",
    ]  # fmt: skip
    assert canonical_flags(["preview", "-"]) == ["preview", "--data=-"]
    assert canonical_flags(["--dataset", "-", "--r=4", "-"]) == ["--data=-", "--r=4", "--data=-"]


def test_all_mistakes_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        build_settings(modle="m", r=0, bias="maybe", seed="x")
    text = str(caught.value)
    for part in (
        "did you mean 'model'",
        "r = 0",
        "bias = 'maybe'",
        "seed = 'x'",
        "data is missing",
    ):
        assert part in text
