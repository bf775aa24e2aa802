"""A stopped command ends with 130, says so once, and leaves no child behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command import environment

BEGIN = "import os, signal, sys, time\nfrom lorita.system.signals import *\nwatch_signals()\n"


def script(text: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BEGIN + text],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def outcome(text: str) -> tuple[int, str, str]:
    process = script(text)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_is_an_exception_wherever_it_arrives(name: str) -> None:
    code, out, err = outcome(
        f"try: signal.raise_signal(signal.{name})\n"
        "except (Terminated, KeyboardInterrupt): print('cleaned up'); leave(130)\n"
    )
    assert (code, out, err) == (130, "cleaned up\n", "")


def test_an_exception_that_a_library_swallows_is_raised_again() -> None:
    """In a finaliser it is printed and forgotten by Python itself."""
    code, out, err = outcome(
        "class Bad:\n"
        "    def __del__(self): signal.raise_signal(signal.SIGTERM)\n"
        "try:\n"
        "    Bad()\n"
        "    time.sleep(30)\n"
        "except Terminated: print('again'); leave(130)\n"
    )
    assert (code, out, err) == (130, "again\n", "")


def test_an_error_made_of_the_exception_is_recognised() -> None:
    code, _, _ = outcome(
        "try:\n"
        "    try: signal.raise_signal(signal.SIGINT)\n"
        "    except KeyboardInterrupt: raise ValueError('cannot be read')\n"
        "except ValueError as error: leave(130 if caused_by_signal(error) else 1)\n"
    )
    assert code == 130


def test_a_second_signal_ends_at_once() -> None:
    process = script(
        "try: print('ready', flush=True); time.sleep(30)\n"
        "except Terminated: print('cleaning', flush=True); time.sleep(30)\n"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "cleaning\n"
    time.sleep(0.7)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[1] == "Interrupted again: ended at once\n"
    assert process.returncode == 130


def test_what_nohup_ignores_stays_ignored() -> None:
    text = "signal.raise_signal(signal.SIGHUP); print('goes on'); leave(0)\n"
    ignored = f"import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n{BEGIN}{text}"
    done = subprocess.run(
        [sys.executable, "-c", ignored], capture_output=True, text=True, env=environment()
    )
    assert (done.returncode, done.stdout) == (0, "goes on\n")


def test_the_end_is_not_changed_any_more() -> None:
    """The interpreter gives up its handlers before it ends."""
    code, _, err = outcome(
        "import atexit\natexit.register(lambda: signal.raise_signal(signal.SIGTERM))\nleave(0)\n"
    )
    assert (code, err) == (0, "")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are listed by Linux")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_children_and_their_children_are_ended(name: str) -> None:
    """As a compiler's driver and the compiler that it starts."""
    process = script(
        "import subprocess\n"
        "try: subprocess.run(['sh', '-c', 'sleep 60 & echo $!; wait'])\n"
        "except (Terminated, KeyboardInterrupt): leave(130)\n"
    )
    assert process.stdout is not None
    grandchild = int(process.stdout.readline())
    process.send_signal(getattr(signal, name))
    assert process.wait(timeout=20) == 130
    deadline = time.monotonic() + 10
    while _is_running(grandchild):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
