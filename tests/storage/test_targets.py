"""A target is complete or absent, has one writer, and replaces only what lorita wrote."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lorita.errors import OutputError
from lorita.storage.manifest import MODEL, OLLAMA, Manifest
from lorita.storage.targets import (
    Target,
    check_target,
    clean_targets,
    replacing,
    require_apart,
)

WRITER = """
import sys, time
from pathlib import Path
from lorita.storage.targets import Target, replacing
with replacing(Target(Path(sys.argv[1]), overwrite=True, kind="merged model")) as part:
    part.mkdir()
    (part / "weights").write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def make(path: Path, text: str = "whole", *, kind: str | None = MODEL) -> None:
    with replacing(Target(path, overwrite=True, kind=kind, magic=b"GGUF")) as part:
        if kind is None:
            part.write_text(f"GGUF {text}")
        else:
            part.mkdir()
            (part / "weights").write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def start_writer(path: Path) -> subprocess.Popen[str]:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
    return writer


@pytest.mark.parametrize("kind", [MODEL, None])
def test_a_target_is_replaced_by_another_of_its_kind(tmp_path: Path, kind: str | None) -> None:
    out = tmp_path / "new/out"
    for text in ("first", "second"):
        make(out, text, kind=kind)
        file = out if kind is None else out / "weights"
        assert file.read_text().endswith(text)
        assert names(tmp_path / "new") == ["out"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out)
    for target in (out, tmp_path / "a/b/other"):
        with (
            pytest.raises(ZeroDivisionError),
            replacing(Target(target, overwrite=True, kind=MODEL)) as part,
        ):
            part.mkdir()
            raise ZeroDivisionError
    assert names(tmp_path) == ["out"] and (out / "weights").read_text() == "whole"


def test_two_writers_and_what_a_killed_one_leaves(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out)
    writer = start_writer(out)
    try:
        for attempt in (lambda: make(out), lambda: check_target(Target(out, True, MODEL))):
            with pytest.raises(OutputError, match=f"is being written by process {writer.pid}"):
                attempt()
        make(tmp_path / "other")  # the parts of a living process stay
        assert len(list(tmp_path.glob(".out.*.lorita-target.part"))) == 1
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert (out / "weights").read_text() == "whole"
    make(tmp_path / "other")  # whatever is written next to it
    assert names(tmp_path) == ["other", "out"]


def test_killed_between_two_renames(tmp_path: Path) -> None:
    """The old folder is aside and the new one not in place yet: the old one comes back."""
    out = tmp_path / "out"
    make(out)
    old = tmp_path / ".out.abcdefgh.lorita-target.part/old"
    old.mkdir(parents=True)
    out.rename(old / "out")
    clean_targets(tmp_path)
    assert names(tmp_path) == ["out"] and (out / "weights").read_text() == "whole"


def test_only_parts_are_cleaned(tmp_path: Path) -> None:
    for name in (".mine.part", ".x.lorita-target.part", "x.abcdefgh.lorita-target.part"):
        (tmp_path / name).mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".y.abcdefgh.lorita-target.part").symlink_to("elsewhere")
    before = names(tmp_path)
    make(tmp_path / "out")
    assert names(tmp_path) == sorted([*before, "out"])


def refusal(target: Target) -> str:
    with pytest.raises(OutputError) as caught:
        check_target(target)
    with pytest.raises(OutputError), replacing(target):
        pass
    return str(caught.value)


def test_what_is_never_replaced(tmp_path: Path) -> None:
    make(tmp_path / "model")
    (tmp_path / "model/sub").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/mine").write_text("mine")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "run").mkdir()
    Manifest("run", frozenset({"x.gguf"})).save(tmp_path / "run")
    (tmp_path / "run/x.gguf").write_bytes(b"GGUF")
    make(tmp_path / "ollama", kind=OLLAMA)
    before = sorted(tmp_path.rglob("*"))
    cases = [
        ("model", MODEL, "did not write there", "sub/"),
        ("folder", MODEL, "did not write there", "mine"),
        ("folder", None, "a folder", "not replaced by a file"),
        ("file", MODEL, "a file", "not replaced by a folder"),
        ("file", None, "another type", ""),
        ("link", None, "symbolic link", ""),
        ("dangling", None, "symbolic link", ""),
        ("dangling", MODEL, "symbolic link", ""),
        ("run", MODEL, "holds a run", ""),
        ("ollama", MODEL, "holds a model for Ollama", ""),
        ("run/x.gguf", None, "belongs to the run", ""),
    ]
    for name, kind, *said in cases:
        message = refusal(Target(tmp_path / name, overwrite=True, kind=kind, magic=b"GGUF"))
        assert all(text in message for text in said), message
    assert "not a plain file" in refusal(Target(Path("/dev/null"), overwrite=True))
    assert "--overwrite" in refusal(Target(tmp_path / "model", kind=MODEL))
    assert sorted(tmp_path.rglob("*")) == before


def test_sources_are_no_targets(tmp_path: Path) -> None:
    base = tmp_path / "models/base"
    base.mkdir(parents=True)
    (tmp_path / "link").symlink_to(base)
    for out, how in (
        (base, "is"),
        (tmp_path / "link", "is"),
        (base.parent, "contains"),
        (base / "out", "lies inside"),
        (tmp_path / "link/a/b", "lies inside"),
        (base / "../base", "is"),
    ):
        with pytest.raises(OutputError, match=f"{how} the base"):
            require_apart(out, [("the base", base)], inside=False, advice="no")
    require_apart(tmp_path / "models/base2", [("the base", base)], inside=False, advice="no")
    require_apart(base / "out", [("the adapter", base)], advice="no")


def test_long_names(tmp_path: Path) -> None:
    out = tmp_path / ("n" * 250)
    make(out, kind=None)
    assert names(tmp_path) == [out.name]
