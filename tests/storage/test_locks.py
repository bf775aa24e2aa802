"""A lock belongs to one process at a time, is released by its death, and leaves no file behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lorita.errors import LoritaWarning, OutputError
from lorita.storage import locks
from lorita.storage.locks import hold, if_free, require_free

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="stopped by signals")

HOLDER = """
import sys, time
from pathlib import Path
from lorita.storage.locks import hold
with hold(Path(sys.argv[1]), Path("it"), advice="wait"):
    print("held", flush=True)
    time.sleep(60)
"""


def start_holder(lock: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    return holder


def test_who_holds_it_is_said_and_its_death_frees_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    holder = start_holder(lock)
    try:
        said = f"it: is being written by process {holder.pid}, since 20.*\nwait"
        with pytest.raises(OutputError, match=said), hold(lock, Path("it"), advice="wait"):
            pass
        with pytest.raises(OutputError, match=said):
            require_free(lock, Path("it"), advice="wait")
        with if_free(lock) as free:
            assert not free
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert lock.exists()  # what it left is taken over
    require_free(lock, Path("it"), advice="wait")
    with hold(lock, Path("it"), advice="wait"):
        pass
    assert not lock.exists()


def test_a_second_thread_is_refused_too(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with hold(lock, Path("it"), advice="wait"):
        with pytest.raises(OutputError), hold(lock, Path("it"), advice="wait"):
            pass
        assert lock.exists()


def test_never_two_holders(tmp_path: Path) -> None:
    """The file is deleted at each release, which must not let two others in."""
    lock, inside, most, taken = tmp_path / "lock", [0], [0], [0]
    guard = threading.Lock()

    def work() -> None:
        for _ in range(200):
            with if_free(lock) as free:
                if free:
                    with guard:
                        inside[0] += 1
                        taken[0] += 1
                        most[0] = max(most[0], inside[0])
                    with guard:
                        inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and taken[0] > 1


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_lock_is_left_alone(tmp_path: Path, kind: str) -> None:
    lock, other = tmp_path / "lock", tmp_path / "other"
    other.write_text("mine")
    if kind == "link":
        lock.symlink_to(other)
    elif kind == "pipe":
        os.mkfifo(lock)
    else:
        lock.mkdir()
    with pytest.raises((OutputError, OSError)), hold(lock, Path("it"), advice="wait"):
        pass
    assert other.read_text() == "mine"
    assert lock.is_symlink() or lock.exists()


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **more: object) -> bool:
        raise locks.NoLocks(38, "Function not implemented")

    monkeypatch.setattr(locks, "_try_lock", fail)
    with (
        pytest.warns(LoritaWarning, match="has no locks"),
        hold(tmp_path / "lock", Path("it"), advice="wait"),
    ):
        pass
    with if_free(tmp_path / "lock") as free:
        assert not free  # nothing of others is taken for left over


def test_text_of_others_cannot_move_the_cursor(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with hold(lock, Path("it"), advice="wait"):
        owner = '{"pid": 1, "host": "\\u001b[2Jx", "since": "now", "command": "\\u0007\\u202e"}'
        lock.write_text(owner)
        with pytest.raises(OutputError) as caught:
            require_free(lock, Path("it"), advice="wait")
    assert str(caught.value).replace("\n", "").isprintable()
