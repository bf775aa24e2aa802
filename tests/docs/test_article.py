"""The article's command is the article's: in the read-me files and as a settings file."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from lorita.cli.options import canonical_flags
from lorita.settings.build import build_settings, option_name
from lorita.settings.schema import RunSettings
from tests.docs.pages import ROOT, pieces
from tests.docs.place import World

FILE = ROOT / "examples/article.yaml"
NOTEBOOK = {
    "model": "bigscience/bloomz-560m",
    "data": ["fka/awesome-chatgpt-prompts"],
    "text_field": "prompt",
    "max_train_samples": 50,
    "r": 4,
    "lora_alpha": 1,
    "lora_dropout": 0.05,
    "bias": "lora_only",
    "target_modules": ["query_key_value"],
    "learning_rate": 3e-2,
    "num_train_epochs": 10,
    "per_device_train_batch_size": 8,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0,
    "weight_decay": 0.0,
}
"""What the notebook sets, and what the Trainer's defaults of that time add."""


def from_command(command: str) -> RunSettings:
    """The settings of a ``lorita train`` command whose options are all flags with a value."""
    tokens = canonical_flags(shlex.split(command)[2:])
    pairs = zip(tokens[::2], tokens[1::2], strict=True)
    return build_settings(**{str(option_name(flag)): value for flag, value in pairs})


def as_written(settings: RunSettings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in NOTEBOOK}


def test_the_file_has_its_settings() -> None:
    assert as_written(build_settings(FILE)) == NOTEBOOK


@pytest.mark.parametrize("page", ["README.md", "README.es.md"])
def test_the_command_is_the_file(page: str) -> None:
    found = [p.text for p in pieces(ROOT / page) if "--output-dir runs/article" in p.text]
    assert len(found) == 1
    assert as_written(from_command(found[0])) == NOTEBOOK
    assert "(examples/article.yaml)" in (ROOT / page).read_text(encoding="utf-8")


def test_the_file_works_from_anywhere(world: World, tmp_path: Path) -> None:
    result = world.shell(f"lorita train {FILE} --max-steps 2 --no-proof", tmp_path)
    assert result.code == 0, result
    assert (tmp_path / "runs/article/adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_its_other_commands_work_from_the_clone(world: World, tmp_path: Path) -> None:
    """Those in its comments: with files of the clone, and the one for other texts."""
    text = FILE.read_text(encoding="utf-8")
    comments = [line[1:].strip() for line in text.splitlines() if line.startswith("#")]
    joined = "\n".join(comments).replace(" \\\n", " ")
    commands = [line for line in joined.splitlines() if line.startswith("lorita ")]
    assert len(commands) == 3
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "prompts.csv").symlink_to(world.folder / "data/prompts.csv")
    for number, command in enumerate(commands):
        quick = f"--max-steps 1 --no-proof --output-dir {number}"
        result = world.shell(f"{command} {quick}", tmp_path)
        assert result.code == 0, f"{command}\n{result}"
