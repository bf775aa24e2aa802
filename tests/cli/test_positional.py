"""Models, data and settings without a flag: each is recognised, or there is one clear question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorita.cli.positional import read_targets
from lorita.errors import SettingsError
from tests.command import refused, write


@pytest.fixture
def here(tmp_path: Path, llama: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, a GGUF file, data, settings and a run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").symlink_to(llama)
    (tmp_path / "rows").mkdir()
    (tmp_path / "runs/done").mkdir(parents=True)
    (tmp_path / "half").mkdir()
    for name in ("a.gguf", "a.csv", "b.csv", "rows/a.jsonl", "run.yaml", "runs/done/run.yaml"):
        write(tmp_path / name, "")
    write(tmp_path / "half/model.safetensors", "")
    return tmp_path


def read(*targets: str, first: Any = "model", **options: Any) -> tuple[str | None, dict[str, Any]]:
    config = read_targets(targets, options, first=first)
    return None if config is None else str(config), options


@pytest.mark.parametrize("name", ["smollm2-135m", "ollama:llama3.2:1b", "a.gguf", "model", "half"])
def test_a_model(here: Path, name: str) -> None:
    for first in ("model", "data"):
        assert read(name, first=first) == (None, {"model": name})
    assert read(name, "a.csv") == read("a.csv", name) == (None, {"model": name, "data": ["a.csv"]})


@pytest.mark.parametrize("name", ["a.csv", "rows", "*.csv", "-", "nothere.jsonl", "page.docx"])
def test_data(here: Path, name: str) -> None:
    for first in ("model", "data"):
        assert read(name, first=first) == (None, {"data": [name]})
    assert read("a.csv", "b.csv", data=["c.csv"])[1]["data"] == ["c.csv", "a.csv", "b.csv"]


@pytest.mark.parametrize(("name", "file"), [
    ("run.yaml", "run.yaml"), ("runs/done", "runs/done/run.yaml"), ("other.yml", "other.yml"),
])  # fmt: skip
def test_settings(here: Path, name: str, file: str) -> None:
    assert read(name) == (file, {})
    assert read(name, "a.csv") == (file, {"data": ["a.csv"]})
    assert read(name, "model") == (file, {"model": "model"})


def test_a_data_set_with_a_config_of_its_own(here: Path) -> None:
    write(here / "rows/config.json", "{}")
    assert read("rows") == (None, {"model": "rows"})
    write(here / "rows/a.csv", "text")
    assert read("rows") == (None, {"data": ["rows"]})


def test_a_hub_name_is_what_is_missing(here: Path) -> None:
    name, other = "bigscience/bloomz-560m", "fka/prompts"
    assert read(name) == (None, {"model": name})
    assert read("gpt2") == (None, {"model": "gpt2"})
    assert read(name, first="data") == (None, {"data": [name]})
    assert read(name, model="m")[1] == {"model": "m", "data": [name]}
    assert read(name, data=["d"], first="data")[1] == {"model": name, "data": ["d"]}
    assert read("a.csv", name, first="data")[1] == {"model": name, "data": ["a.csv"]}
    for first in ("model", "data"):
        assert read(name, other, first=first)[1] == {"model": name, "data": [other]}


@pytest.mark.parametrize(("targets", "options", "message"), [
    (["a.gguf"], {"model": "m"}, "given twice: a.gguf and m"),
    (["a.gguf", "model"], {}, "given twice: model and a.gguf"),
    (["run.yaml", "runs/done"], {}, "only one settings file"),
    (["run.yaml", "owner/name"], {}, "the model or the data?"),
    (["a/b", "c/d", "e/f"], {}, "given already"),
    (["runs/nothere"], {}, "no such file or folder"),
    (["./nothere"], {}, "no such file or folder"),
    (["runs/dome"], {}, "Did you mean runs/done?"),
    ([r"C:\nothere"], {}, "no such file or folder"),
    (["/nowhere/at/all", "~/nor/here"], {}, "~/nor/here: no such"),
    (["owner/name"], {"resume": True}, "no such run folder"),
    (["gone"], {"resume_from_checkpoint": "last"}, "no such run folder"),
])  # fmt: skip
def test_one_clear_message(
    here: Path, targets: list[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError) as raised:
        read(*targets, **options)
    assert message in str(raised.value)


def test_commands_take_them(
    llama: Path, prompts: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    from lorita.cli import run

    monkeypatch.chdir(prompts.parent)
    quick = ["--text-field", "prompt", "--max-steps", "1", "--no-proof", "--max-new-tokens", "2"]
    assert run(["plan", str(llama), "--r", "4", "--target-modules", "q_proj,v_proj"]) == 0
    assert "params: 896 " in capsys.readouterr().out
    assert run(["preview", str(prompts), str(llama), "--text-field", "prompt"]) == 0
    assert run(["train", str(llama), str(prompts), *quick]) == 0
    assert (prompts.parent / "runs/prompts/adapter_model.safetensors").exists()
    assert "the model is given twice" in refused(capsys, "train", llama, prompts, "--model", "m")
    assert "unknown option" in refused(capsys, "plan", llama, "--datta", "x").lower()


@pytest.mark.parametrize("words", [
    ["plan", "--no-probe", "--data", "-"],
    ["plan", "--data", "-", "--no-probe"],
    ["plan", "--no-probe", "-"],
    ["preview", "-"],
    ["preview", "--json", "-"],
])  # fmt: skip
def test_standard_input(
    words: list[str], llama: Path, prompts: Path, monkeypatch: Any, capsys: Any
) -> None:
    import io

    from lorita.cli import run

    class Input:
        buffer = io.BytesIO(prompts.read_bytes())

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr("sys.stdin", Input())
    code = run([*words, "--model", str(llama), "--text-field", "prompt"])
    assert code == 0, capsys.readouterr().err
