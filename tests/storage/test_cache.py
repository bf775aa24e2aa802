"""Caches hold what this user wrote, whole, for this user alone, and not longer than needed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lorita.storage import cache
from lorita.storage.cache import KEPT_DAYS, MANIFEST, find_kept, kept_folder, tables_folder
from lorita.storage.parts import Part, remove_abandoned
from lorita.storage.private import NotPrivate, open_own, private_folder

owners = pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give files away"
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "tables")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cache, "_cleaned", set())
    monkeypatch.setattr(cache, "_temporary", {})
    return tmp_path / "home" / "lorita"


def make(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "weights").write_bytes(os.urandom(10) * 300_000)
    (folder / "config").write_text("real")


def kept() -> Path:
    return kept_folder("model", "mark", make)


def test_folders_and_files_are_private(home: Path) -> None:
    folder = kept()
    modes = {p.stat().st_mode & 0o777 for p in folder.rglob("*") if p.is_file()}
    assert modes == {0o600}
    assert home.stat().st_mode & 0o777 == folder.stat().st_mode & 0o777 == 0o700
    assert tables_folder().stat().st_mode & 0o777 == 0o700
    assert [p.name for p in home.iterdir()] == [folder.name]
    made = (folder / "inner" / "weights").stat().st_ino
    assert kept() == folder and (folder / "inner" / "weights").stat().st_ino == made


def test_what_killed_processes_left_is_removed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts in the cache, and those among the temporary files where there can be no cache."""
    kept()
    for folder in (home, tmp_path):
        (folder / ".lorita-model-killed.part/made").mkdir(parents=True)
    with Part(home, "model") as running:
        cache._cleaned.clear()
        kept()
        assert [p.name for p in home.glob(".*.part")] == [running.path.name]
    (tmp_path / "file").touch()
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "file"))
    assert kept().parent == tmp_path
    assert not (tmp_path / ".lorita-model-killed.part").exists()


@pytest.mark.parametrize(
    "damage",
    ["cut", "zeros", "missing", "link", "no manifest", "manifest", "types", "open", "file"],
)
def test_what_is_damaged_or_planted_is_made_again(damage: str, tmp_path: Path) -> None:
    folder = kept()
    weights, config, manifest = folder / "inner" / "weights", folder / "config", folder / MANIFEST
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif damage == "zeros":
        weights.write_bytes(bytes(weights.stat().st_size))
    elif damage == "missing":
        config.unlink()
    elif damage == "link":
        config.replace(tmp_path / "elsewhere")
        config.symlink_to(tmp_path / "elsewhere")
    elif damage == "no manifest":
        manifest.unlink()
    elif damage in ("manifest", "types"):
        manifest.write_text('{"config": [3]}' if damage == "types" else "[" * 100_000)
    elif damage == "open":
        config.chmod(0o666)
    else:
        cache.remove(folder)
        folder.write_text("in the way")
    assert find_kept("model", "mark") is None
    assert (kept() / "config").read_text() == "real" and not config.is_symlink()
    assert find_kept("model", "mark") == folder


@owners
@pytest.mark.parametrize("what", ["folder", "entry", "file"])
def test_what_another_user_left_is_not_believed(what: str, home: Path) -> None:
    folder = kept()
    path = {"folder": home, "entry": folder, "file": folder / "config"}[what]
    (folder / "config").write_text("evil")
    (folder / MANIFEST).write_text("{}")
    os.chown(path, 65534, 65534)
    if what == "folder":
        again = kept()
        assert again.parent.name == f"lorita-{os.getuid()}"
        assert again.parent.stat().st_mode & 0o777 == 0o700
    elif what == "entry":
        again = kept()
    else:
        with pytest.raises(NotPrivate, match="another user"):
            open_own(path)
        return
    assert (again / "config").read_text() == "real"


def test_a_link_in_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "lorita").symlink_to(tmp_path / "theirs")
    assert private_folder(tmp_path).name == f"lorita-{os.getuid()}"
    assert not list((tmp_path / "theirs").iterdir())


def test_without_a_cache_nothing_stays(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    program = (
        "from lorita.storage.cache import kept_folder\n"
        "made = [kept_folder('model', 'a/b', lambda f: (f / 'x').write_text('x')) for _ in '12']\n"
        "assert made[0] == made[1] and (made[0] / 'x').exists()\n"
    )
    where = {"HF_HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, **where})
    assert not list((tmp_path / "tmp").iterdir())


def test_a_failed_conversion_leaves_nothing(home: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        kept_folder("model", "mark", lambda folder: print(1 / 0))
    assert not list(home.iterdir())


def test_what_was_not_used_for_long_is_deleted(home: Path) -> None:
    folder, old = kept(), time.time() - (KEPT_DAYS + 1) * 86400
    (home / "ancient").mkdir()
    os.utime(home / "ancient", (old, old))
    os.utime(folder, (old, old))
    assert kept() == folder  # used again just now, by a process that has looked before
    cache._cleaned.clear()
    kept()
    assert [p.name for p in home.iterdir()] == [folder.name]


def test_parts_of_dead_processes_are_removed_and_others_left(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from lorita.storage.parts import Part\n"
        "part = Part(Path(sys.argv[1]), 'x'); (part.path / 'data').write_text('secret')\n"
        "print(flush=True); sys.stdin.read(); os._exit(9)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        own = Part(tmp_path, "x")
        (tmp_path / ".x-link.part").symlink_to(tmp_path / "home", target_is_directory=True)
        remove_abandoned(tmp_path)
        assert len(list(tmp_path.glob(".x-*"))) == 3
        process.kill()
    remove_abandoned(tmp_path)
    assert sorted(tmp_path.glob(".x-*")) == sorted([own.path, tmp_path / ".x-link.part"])
    own.remove()
    assert not own.path.exists()


def test_while_another_thread_imports_datasets(tmp_path: Path) -> None:
    """It is in ``sys.modules`` then, but has nothing yet."""
    package = tmp_path / "datasets"
    package.mkdir()
    (package / "__init__.py").write_text("import time; time.sleep(0.5); from . import config")
    (package / "config.py").write_text("HF_DATASETS_CACHE = 'kept'")
    code = (
        "import sys, threading; from lorita.storage import cache\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "threading.Thread(target=lambda: __import__('datasets')).start()\n"
        "while 'datasets' not in sys.modules: pass\n"
        "print(cache._datasets_cache())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "kept\n", done.stderr
