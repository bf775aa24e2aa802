"""A name that is not there is told as what it is: a path, or a name on the hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorita.storage.names import is_path, meant
from tests.command import refused


@pytest.mark.parametrize(
    "name",
    [
        "runs/nothere",
        "./x",
        "../x",
        "~/x",
        "~me/x",
        "/x",
        "a/b/c",
        "C:\\x",
        "c:x",
        "a\\b",
        "models/",
    ],
)
def test_paths(name: str) -> None:
    assert is_path(name)


@pytest.mark.parametrize("name", ["gpt2", "owner/name", "Qwen/Qwen2.5-0.5B", "smollm2-135m"])
def test_names_on_the_hub(name: str) -> None:
    assert not is_path(name)


def test_what_was_meant(tmp_path: Path) -> None:
    for name in ("prompts", "chats", ".hidden"):
        (tmp_path / name).mkdir()
    assert meant(str(tmp_path / "promts")) == f"Did you mean {tmp_path / 'prompts'}?"
    assert meant(str(tmp_path / "Chats")) == f"Did you mean {tmp_path / 'chats'}?"
    assert meant(str(tmp_path / "elephants")) is None
    assert meant(str(tmp_path / "none/promts")) is None
    assert meant("smolm2-135m", ["smollm2-135m"]) == "Did you mean smollm2-135m?"


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "runs/nothere", "hi"),
        ("chat", "runs/nothere"),
        ("compare", "runs/nothere"),
        ("compare", "runs/nothere", "--prompt", "hi"),
        ("evaluate", "runs/nothere"),
        ("push", "runs/nothere"),
        ("merge", "runs/nothere", "out"),
        ("export", "gguf", "runs/nothere", "out.gguf"),
        ("export", "ollama", "runs/nothere", "out"),
        ("train", "runs/nothere", "--resume"),
        ("plan", "runs/nothere"),
        ("targets", "runs/nothere"),
        ("generate", "./x", "hi"),
        ("generate", "~/no/such/x", "hi"),
        ("generate", "C:\\x", "hi"),
        ("generate", "a/b/c", "hi"),
    ],
    ids=" ".join,
)
def test_a_path_that_is_not_there(
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing is said of the hub, nor of its cache."""
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, *arguments)
    name = next(word for word in arguments if set(word) & set("/\\"))
    assert said.startswith((f" {name}: no such ", f" {name}: there is no such ")), said
    first = said.splitlines()[0]
    assert not any(word in first.lower() for word in ("hub", "cache", "offline", "network"))


@pytest.mark.parametrize("where", ["runs/rows", "./rows", "data/a/rows", "~/no/such/rows"])
def test_data_that_is_not_there(
    where: str,
    llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for option in ("--data", "--eval-data"):
        data = {"--data": "rows.csv"} | {option: where}
        (tmp_path / "rows.csv").write_text("text\n" + "a b c\n" * 12)
        given = [word for pair in data.items() for word in pair]
        said = refused(capsys, "train", "--model", llama, *given)
        assert f"{where}: file not found" in said, said


def test_what_lies_beside_it_is_named(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/prompts").mkdir(parents=True)
    (tmp_path / "prompts.csv").write_text("text\na\n")
    for words in (["generate"], ["compare"], ["evaluate"]):
        rest = ["hi"] if words == ["generate"] else []
        assert "Did you mean runs/prompts?" in refused(capsys, *words, "runs/promts", *rest)
    said = refused(capsys, "train", "--model", llama, "--data", "promts.csv")
    assert "promts.csv: file not found. Did you mean prompts.csv?" in said
    # Where its folder is here, a name is a name on the hub only if nothing else.
    (tmp_path / "mine/prompts").mkdir(parents=True)
    said = refused(capsys, "plan", "mine/promts")
    assert "mine/promts: no such file or folder" in said and "Did you mean mine/prompts?" in said


@pytest.mark.parametrize("name", ["smolm2-135m", "SmolLM2-135M", "smollm-135m"])
def test_a_bundled_model_with_a_typo(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean the bundled smollm2-135m?" in refused(capsys, "plan", name)
