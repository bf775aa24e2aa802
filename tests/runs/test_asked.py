"""A settings file alone runs no code, uploads nothing and replaces no run: a person has to ask."""

from __future__ import annotations

import json
import os
import py_compile
from pathlib import Path
from typing import Any

import pytest

import lorita
from lorita import cli
from lorita.data.sources.map_row import find_function
from lorita.errors import UserError
from lorita.storage.confirmed import confirm, is_confirmed, mark
from lorita.storage.manifest import RUN, Manifest
from tests import tiny
from tests.command import refused, write

CODE = """
from pathlib import Path
Path({canary!r}).write_text("run")
def clean(row):
    return row["prompt"]
"""


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.fixture
def folder(tmp_path: Path, llama: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody's folder with settings, data and code, and the user in it."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    tiny.write_csv(folder / "rows.csv", tiny.make_texts(24))
    write(folder / "prep.py", CODE.format(canary=str(canary)))
    settings(folder, llama, "map_row: prep.py:clean")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    return folder


def settings(folder: Path, model: Path, *lines: str) -> Path:
    common = f"model: {model}\ndata: rows.csv\nmax_steps: 1\nproof: false\nmax_new_tokens: 2\n"
    common += "use_cpu: true\nprobe: false\n"
    return write(folder / "run.yaml", common + "\n".join(lines) + "\n")


COMMANDS = [["train"], ["train", "--resume"], ["plan"], ["preview"], ["sweep", "--r", "2,4"]]


@pytest.mark.parametrize("place", ["run.yaml", "."])
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_code_in_a_settings_file_is_not_run(
    words: list[str], place: str, folder: Path, canary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, words[0], place, *words[1:])
    assert f"{folder / 'prep.py'} (sha256 " in said and "--map-row prep.py:clean" in said
    assert not canary.exists()


@pytest.mark.parametrize("function", [lorita.train, lorita.preview, lorita.sweep])
def test_python_asks_too(function: Any, folder: Path, canary: Path) -> None:
    options: dict[str, Any] = {"grid": {"r": [2, 4]}} if function is lorita.sweep else {}
    with pytest.raises(UserError, match="that nobody has allowed"):
        function(config="run.yaml", **options)
    assert not canary.exists()


def test_a_planted_package_is_code_too(
    folder: Path, llama: Path, canary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "odd_package").mkdir()
    write(folder / "odd_package" / "__init__.py", CODE.format(canary=str(canary)))
    write(folder / "odd_package" / "inner.py", CODE.format(canary=str(canary)))
    settings(folder, llama, "map_row: odd_package.inner:clean")
    said = refused(capsys, "preview", "run.yaml")
    assert "odd_package/__init__.py (sha256" in said and "odd_package/inner.py (sha256" in said
    assert not canary.exists()
    # A module that is part of Python is still code that a file has chosen.
    settings(folder, llama, "map_row: json:dumps")
    assert "--map-row json:dumps" in refused(capsys, "preview", "run.yaml")


def test_what_is_allowed_is_remembered_until_it_changes(
    folder: Path, canary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["preview", "run.yaml", "--map-row", "prep.py:clean"]) == 0
    assert canary.exists()
    assert cli.run(["preview", "run.yaml"]) == 0
    with (folder / "prep.py").open("a") as file:
        file.write("print('more')\n")
    canary.unlink()
    refused(capsys, "preview", "run.yaml")
    assert not canary.exists()


def test_an_own_run_goes_on(
    folder: Path, llama: Path, canary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings(folder, llama)
    run = folder / "runs" / "mine"
    flags = ["--map-row", "prep.py:clean", "--output-dir", str(run), "--overwrite"]
    assert cli.run(["train", "run.yaml", *flags]) == 0
    assert cli.run(["train", str(run), "--resume"]) == 0
    assert cli.run(["evaluate", str(run)]) == 0
    assert cli.run(["train", str(run / "run.yaml")]) == 0  # replaced, as it was asked to be
    # On another machine, or for another user, nothing is known about it.
    os.environ["XDG_STATE_HOME"] += "-elsewhere"
    canary.unlink()
    said = refused(capsys, "evaluate", run)
    assert "--map-row prep.py:clean" in said and not canary.exists()
    assert cli.run(["train", str(run), "--resume"]) == 0  # it is finished: nothing is read
    assert not canary.exists()
    assert cli.run(["evaluate", str(run), "--map-row", "prep.py:clean"]) == 0


def test_compiled_copies_are_not_believed(
    tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy in __pycache__ that says it is of this source may hold anything."""
    evil = write(tmp_path / "odd_module.py", CODE.format(canary=str(canary)))
    py_compile.compile(str(evil), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    write(evil, "def clean(row):\n    return row\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_function(f"{evil}:clean")({"a": 1}) == {"a": 1}
    assert find_function("odd_module:clean")({"a": 1}) == {"a": 1}
    assert not canary.exists()


def test_trust_in_a_settings_file(
    tmp_path: Path, folder: Path, canary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tiny.save_model(tmp_path / "base")
    settings(folder, base, "trust_remote_code: true")
    assert cli.run(["preview", "run.yaml"]) == 0  # this base has no code
    config = json.loads((base / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "odd.OddConfig", "AutoModel": "them/other--odd.OddModel"}
    write(base / "config.json", json.dumps(config))
    write(base / "odd.py", CODE.format(canary=str(canary)))
    for words in ("plan", "preview", "train"):
        said = refused(capsys, words, "run.yaml")
        assert f"{base / 'odd.py'} (sha256 " in said and "them/other on the hub" in said
        assert "--trust-remote-code" in said
    assert not canary.exists()


def test_uploads(
    folder: Path, llama: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed: list[Any] = []
    monkeypatch.setattr("lorita.runs.prepare.check_can_push", lambda hub_id: None)
    monkeypatch.setattr(
        "lorita.export.push.push_run", lambda run, hub_id: pushed.append(hub_id) or ("", [])
    )
    settings(folder, llama, "push_to_hub: true", "hub_model_id: them/theirs", "output_dir: out")
    said = refused(capsys, "train", "run.yaml")
    assert "--push-to-hub --hub-model-id them/theirs" in said
    # Whoever asks for an upload has not asked for this place.
    said = refused(capsys, "train", "run.yaml", "--push-to-hub")
    assert "upload the run to them/theirs" in said
    assert not (folder / "out").exists() and not pushed
    assert cli.run(["plan", "run.yaml"]) == 0  # uploads nothing
    target = ["--push-to-hub", "--hub-model-id", "me/mine"]
    assert cli.run(["train", "run.yaml", *target]) == 0
    assert cli.run(["train", "out", "--resume"]) == 0
    assert pushed == ["me/mine"]  # it is finished; lorita push uploads it again


def test_a_run_is_replaced_only_if_a_person_asks(
    folder: Path, llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings(folder, llama, "output_dir: ../mine", "overwrite: true")
    mine = folder.parent / "mine"
    mine.mkdir()
    write(mine / "adapter_config.json", "{}")
    Manifest(RUN, frozenset({"adapter_config.json"})).save(mine)
    said = refused(capsys, "train", "run.yaml")
    assert "asks to replace the run in" in said and "--overwrite" in said
    assert (mine / "adapter_config.json").read_text() == "{}"
    assert cli.run(["plan", "run.yaml"]) == 0  # replaces nothing
    assert cli.run(["train", "run.yaml", "--overwrite"]) == 0
    assert cli.run(["train", "run.yaml"]) == 0


@pytest.mark.parametrize("trick", ["link", "folder link", "writable", "folder writable"])
def test_a_planted_memory_is_not_believed(trick: str, tmp_path: Path) -> None:
    line = mark("map_row", "x")
    place = Path(os.environ["XDG_STATE_HOME"]) / "lorita" / "confirmed"
    confirm(line)
    assert is_confirmed(line) and place.stat().st_mode & 0o777 == 0o600
    assert place.parent.stat().st_mode & 0o777 == 0o700
    if trick == "link":
        place.replace(tmp_path / "elsewhere")
        place.symlink_to(tmp_path / "elsewhere")
    elif trick == "folder link":
        place.parent.replace(tmp_path / "elsewhere")
        place.parent.symlink_to(tmp_path / "elsewhere")
    elif trick == "writable":
        place.chmod(0o666)
    else:
        place.parent.chmod(0o777)
    assert not is_confirmed(line)
    confirm(line)
    assert is_confirmed(line) or trick == "folder link"


def test_a_memory_that_cannot_be_written_only_asks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(write(tmp_path / "file", "")))
    confirm(mark("x"))
    assert not is_confirmed(mark("x"))


def test_a_damaged_memory_is_read_as_far_as_it_goes() -> None:
    confirm(mark("one"))
    place = Path(os.environ["XDG_STATE_HOME"]) / "lorita" / "confirmed"
    with place.open("ab") as file:
        file.write(b"\x00\xff" + mark("two").encode()[:20])
    confirm(mark("three"))
    assert is_confirmed(mark("one")) and is_confirmed(mark("three"))
    assert not is_confirmed(mark("two"))
