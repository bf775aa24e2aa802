"""A fork behaves as the process that it stands for."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import environment, lorita, python
from tests.forks import Fork, start
from tests.screen import look

PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no forks here")


@pytest.mark.parametrize(
    "program",
    [
        "import os, sys; print(os.getcwd(), sys.path[0], sys.argv, os.environ['COLUMNS'])",
        "import sys; print('é'); print('to err', file=sys.stderr); sys.exit(3)",
        "import sys; sys.exit('why')",
        "1 / 0",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "import sys; print(sys.stdin.read()[::-1], sys.stdout.line_buffering)",
        "import atexit, threading, time; atexit.register(print, 'last')\n"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('late'))).start()",
        "import signal; print([signal.getsignal(s) for s in (2, 13, 15)])",
        "import torch; print(torch.get_num_threads(), torch.ones(99, 99).matmul(torch.ones(99)))",
    ],
)  # fmt: skip
def test_as_a_process_of_its_own(program: str, tmp_path: Path) -> None:
    known = environment(COLUMNS="77")
    words = ["-c", program, "one", "two"]
    given = {"cwd": tmp_path, "text": True, **PIPES}
    process = start(words, known, **given)
    assert isinstance(process, Fork)
    out, err = process.communicate("typed", timeout=60)
    with subprocess.Popen([sys.executable, *words], env=known, **given) as plain:
        expected = plain.communicate("typed", timeout=60)
    assert (process.returncode, out) == (plain.returncode, expected[0])
    assert err.splitlines()[-1:] == expected[1].splitlines()[-1:]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_signals(number: signal.Signals) -> None:
    program = "import time; print('here', flush=True); time.sleep(60)"
    process = start(["-c", program], environment(), text=True, **PIPES)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (1 if number == signal.SIGINT else -number)


def test_what_imports_may_read_makes_another_process(tmp_path: Path) -> None:
    for extra in ({"PYTHONPATH": str(tmp_path)}, {"PYTHONUTF8": "0"}, {"ANYTHING": "1"}):
        with start(["-c", ""], environment(**extra)) as process:
            assert not isinstance(process, Fork)
    with start(["-m", "lorita", "preview", "--help"], environment(), **PIPES) as process:
        assert not isinstance(process, Fork)


def test_what_the_hubs_client_reads_is_read_in_the_fork(tmp_path: Path) -> None:
    program = (
        "from huggingface_hub import constants as hub; import datasets, pathlib\n"
        "print(hub.HF_HUB_OFFLINE, hub.ENDPOINT, pathlib.Path(hub.HF_HUB_CACHE).parent)\n"
        "print(datasets.config.HF_ENDPOINT)"
    )
    extra = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://here", "HF_HOME": str(tmp_path)}
    process = start(["-c", program], environment(**extra), text=True, **PIPES)
    assert isinstance(process, Fork)
    out, err = process.communicate(timeout=60)
    assert out.split() == ["False", "http://here", str(tmp_path), "http://here"], err


def test_in_a_terminal() -> None:
    assert "unknown" not in look("--version").screen
    assert look("--version").screen == lorita("--version").out.strip()


def test_the_command_line() -> None:
    done = lorita("runs", "nowhere")
    assert (done.code, done.out) == (2, "")
    assert "no such folder" in done.err
    assert python("-m", "json.tool", "--help").code == 0
