"""Compiled code is loaded only if this user wrote it, whole; nothing else is left behind."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lorita.engine.kernels import build
from lorita.engine.kernels.build import BuildError, load_library
from lorita.engine.kernels.library_cache import cache_folder

COMPILER = shutil.which("c++")
pytestmark = pytest.mark.skipif(
    COMPILER is None or not sys.platform.startswith("linux"), reason="kernels are not compiled here"
)
EVIL = """
#include <stdio.h>
extern "C" int answer() {{ return 13; }}
__attribute__((constructor)) static void run() {{ fclose(fopen("{canary}", "w")); }}
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder; temporary files go to a folder of the test's own."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lorita"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    file = tmp_path / "source" / "small.cpp"
    file.write_text('extern "C" int answer() { return 42; }\n')
    return file


def answer(source: Path) -> int:
    assert COMPILER is not None
    library: ctypes.CDLL = load_library(COMPILER, source)[0]
    return int(library.answer())


def library(cache: Path) -> Path:
    return next(cache.glob("*.so"))


def test_a_library_is_kept_for_this_user_alone(cache: Path, source: Path) -> None:
    assert answer(source) == 42
    made = library(cache).stat()
    assert answer(source) == 42
    assert library(cache).stat().st_ino == made.st_ino
    assert cache.stat().st_mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o777 for p in cache.iterdir()} == {0o600}
    assert sorted(p.suffix for p in cache.iterdir()) == [".sha256", ".so"]


def test_a_folder_that_others_can_read_becomes_private(cache: Path, source: Path) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o755)
    assert answer(source) == 42
    assert cache.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", ["cut", "empty", "zeros", "no hash", "other hash", "flipped"])
def test_a_damaged_library_is_made_again(damage: str, cache: Path, source: Path) -> None:
    answer(source)
    made = library(cache)
    content, hash_file = made.read_bytes(), made.with_suffix(".sha256")
    made.unlink()  # the one in the cache may be loaded
    new = {
        "cut": content[:5000],
        "empty": b"",
        "zeros": bytes(len(content)),
        "flipped": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    }
    made.write_bytes(new.get(damage, content))
    if damage == "no hash":
        hash_file.unlink()
    elif damage == "other hash":
        hash_file.write_text("\udcff".encode("utf-8", "surrogatepass").decode("latin-1"))
    assert answer(source) == 42
    assert made.read_bytes() == content
    assert answer(source) == 42


@pytest.mark.parametrize(
    "trick", ["others can write", "link", "their file", "their hash", "their folder", "folder link"]
)
def test_a_planted_library_is_not_loaded(
    trick: str, cache: Path, source: Path, tmp_path: Path
) -> None:
    if trick.startswith("their") and os.getuid() != 0:
        pytest.skip("only root can give files away")
    assert COMPILER is not None
    canary = tmp_path / "canary"
    evil = tmp_path / "evil.cpp"
    evil.write_text(EVIL.format(canary=canary))
    answer(source)
    made = library(cache)
    subprocess.run([COMPILER, "-shared", "-fPIC", evil, "-o", tmp_path / "evil.so"], check=True)
    made.unlink()  # this process has loaded it
    shutil.copy(tmp_path / "evil.so", made)
    made.chmod(0o600)
    hash_file = made.with_suffix(".sha256")
    hash_file.write_text(build._digest(made.open("rb")) + "\n")
    if trick == "others can write":
        made.chmod(0o666)
    elif trick == "link":
        made.replace(tmp_path / "elsewhere.so")
        made.symlink_to(tmp_path / "elsewhere.so")
    elif trick == "folder link":
        cache.replace(tmp_path / "elsewhere")
        cache.symlink_to(tmp_path / "elsewhere")
    else:
        named = {"their file": made, "their hash": hash_file, "their folder": cache}
        os.chown(named[trick], 65534, 65534)
    assert answer(source) == 42
    assert not canary.exists()


def test_a_cache_that_cannot_be_used_leaves_nothing(
    cache: Path, source: Path, tmp_path: Path
) -> None:
    assert COMPILER is not None
    cache.parent.write_text("a file")
    loaded, note = load_library(COMPILER, source)
    assert loaded.answer() == 42 and "for this process only" in note
    assert not list((tmp_path / "tmp").iterdir())


def test_relative_cache_folders_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the XDG specification says: a folder planted in the current one is no cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert cache_folder().is_absolute() and cache_folder().parent.name == ".cache"


def test_a_compiler_that_hangs_is_given_up(
    cache: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the programs that it has started, and only once."""
    monkeypatch.setattr(build, "PATIENCE", 0.5)
    compiler = tmp_path / "c++"
    compiler.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exit 0\nsleep 60 & echo $! > {tmp_path}/child\nwait\n'
    )
    compiler.chmod(0o755)
    for _ in range(2):
        started = time.monotonic()
        with pytest.raises(BuildError, match="given up"):
            load_library(str(compiler), source)
        assert time.monotonic() - started < 20
    child = int((tmp_path / "child").read_text())
    state = Path(f"/proc/{child}/stat")
    ended = time.monotonic() + 10
    while (alive := _runs(state)) and time.monotonic() < ended:
        time.sleep(0.05)  # the system takes a moment to end it
    assert not alive


def _runs(state: Path) -> bool:
    try:
        return state.read_text().split()[2] != "Z"
    except OSError:
        return False
    assert not list(cache.iterdir())


def test_what_a_killed_build_left_is_removed(cache: Path, source: Path, tmp_path: Path) -> None:
    """Not what another process is still building."""
    compiler = tmp_path / "c++"
    compiler.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exit 0\ntouch {tmp_path}/began\nexec sleep 30\n'
    )
    compiler.chmod(0o755)
    program = (
        "import sys; from pathlib import Path\n"
        "from lorita.engine.kernels.build import load_library\n"
        "load_library(sys.argv[1], Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(compiler), str(source)])
    deadline = time.monotonic() + 60
    while not (tmp_path / "began").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert answer(source) == 42
    assert len(list(cache.glob("lorita-kernels-*"))) == 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert answer(source) == 42
    assert not list(cache.glob("lorita-kernels-*"))
