"""Runs that compare ranks differ in nothing else, or it is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorita.settings.facts import divisor, scale_of
from lorita.training.events import Note
from lorita.workflows.sweep import sweep_events
from lorita.workflows.sweep_grid import make_grid
from lorita.workflows.sweep_result import SweepResult, Tried
from lorita.workflows.sweep_scale import scale_note


def grid(values: dict[str, Any], config: Path | None = None, **options: Any) -> list[Any]:
    return make_grid(values, config, **{"model": "m", "data": "d", **options})


@pytest.mark.parametrize(
    ("swept", "options", "alphas"),
    [
        ({"r": [4, 16]}, {}, [8, 32]),
        ({"r": [4, 16]}, {"r": 2}, [8, 32]),  # the flag --r is what is swept
        ({"r": ["1", "3"], "seed": [1]}, {}, [2, 6]),
        ({"r": [2, 8, 32]}, {"use_rslora": True}, [8, 16, 32]),
        ({"r": [4, 16]}, {"lora_alpha": 16}, [16, 16]),
        ({"r": [4, 16], "lora_alpha": [8]}, {}, [8, 8]),
        ({"r": [4], "lora_alpha": [8, 16]}, {}, [8, 16]),
        ({"use_rslora": [True, False]}, {}, [16, 16]),
        ({"learning_rate": [1e-3, 1e-2]}, {"r": 2}, [16, 16]),
    ],
)
def test_lora_alpha_follows_the_rank(
    swept: dict[str, Any], options: dict[str, Any], alphas: list[float]
) -> None:
    assert [point.settings.lora_alpha for point in grid(swept, **options)] == alphas


def test_the_scale_of_a_settings_file_is_kept(tmp_path: Path) -> None:
    """Every run.yaml has a lora_alpha; nobody typed it for this sweep."""
    (tmp_path / "run.yaml").write_text("model: m\ndata: d\nr: 8\nlora_alpha: 32\n")
    points = grid({"r": [4, 16]}, tmp_path / "run.yaml")
    assert {scale_of(point.settings) for point in points} == {4.0}
    typed = grid({"r": [4, 16]}, tmp_path / "run.yaml", lora_alpha=32)
    assert [point.settings.lora_alpha for point in typed] == [32, 32]


def test_both_kinds_of_scale_in_one_sweep() -> None:
    points = grid({"use_rslora": [True, False], "r": [4, 16]})
    scales = [scale_of(point.settings) for point in points]
    assert scales == pytest.approx([16 / 8**0.5] * 2 + [2.0] * 2)


@pytest.mark.parametrize(
    ("swept", "options"),
    [
        ({"rank_pattern": ["q_proj=4", "q_proj=32"]}, {}),
        ({"r": [4, 32]}, {"rank_pattern": "q_proj=2"}),
        ({"r": [4, 32]}, {"alpha_pattern": "q_proj=4"}),
        ({"r": [4, 32], "rank_pattern": ["q_proj=1", "q_proj=2"]}, {"alpha_pattern": "v_proj=4"}),
    ],
)
@pytest.mark.parametrize("rslora", [False, True])
def test_single_modules_keep_their_scale(
    swept: dict[str, Any], options: dict[str, Any], rslora: bool
) -> None:
    """PEFT scales a module by its own alpha and its own rank."""
    if "alpha_pattern" in options:
        pytest.importorskip("peft")
    config = {key: value for key, value in options.items() if key != "alpha_pattern"}
    points = grid(swept, use_rslora=rslora, **config)

    def scale(settings: Any, name: str) -> float:
        rank = (settings.rank_pattern or {}).get(name, settings.r)
        alpha = (settings.alpha_pattern or {}).get(name, settings.lora_alpha)
        return float(alpha / divisor(rank, rslora))

    for name in ("q_proj", "v_proj"):
        scales = [scale(point.settings, name) for point in points]
        assert scales == pytest.approx([scales[0]] * len(scales))


def test_what_follows_is_said(llama: Path, prompts: Path, tmp_path: Path) -> None:
    there = {"model": str(llama), "data": str(prompts), "output_dir": tmp_path / "sweep"}
    first = next(sweep_events(grid({"r": [4, 16]}, **there), tmp_path / "sweep"))
    assert isinstance(first, Note)
    assert "lora_alpha/r stays 2 (r 4: lora_alpha 8, r 16: lora_alpha 32)" in first.text
    assert "--lora-alpha" in first.text


@pytest.mark.parametrize(
    ("swept", "options", "said"),
    [
        ({"r": [4, 16]}, {"use_rslora": True}, "lora_alpha/sqrt(r) stays 5.657"),
        ({"r": [4, 16]}, {"lora_alpha": 16}, "differ in the scale of the adapter (4, 1)"),
        ({"use_rslora": [True, False]}, {}, "differ in the scale of the adapter (5.66, 2)"),
        ({"learning_rate": [1, 2]}, {}, None),
        ({"lora_alpha": [8, 16]}, {}, None),
        ({"r": [4, 16], "lora_alpha": [8, 16]}, {}, None),
    ],
)
def test_what_is_said(swept: dict[str, Any], options: dict[str, Any], said: str | None) -> None:
    found = scale_note(grid(swept, **options))
    assert found is None if said is None else said in str(found)


def test_a_rank_is_not_praised_for_its_scale() -> None:
    def tried(r: int, loss: float, scale: float) -> Tried:
        return Tried(f"r-{r}", {"r": r}, loss, 1.0, 1.0, None, scale)

    alike = SweepResult(Path(), 3.0, (tried(4, 2.0, 2.0), tried(16, 2.5, 2.0))).edges()
    assert alike == ["The best r is the smallest tried: a smaller one may be better."]
    mixed = SweepResult(Path(), 3.0, (tried(4, 2.0, 4.0), tried(16, 2.5, 1.0))).edges()
    assert len(mixed) == 1 and "may be better" not in mixed[0]
    assert "the scale of the adapter changed, too" in mixed[0]
