"""``python`` for tests, without the seconds that importing takes each time.

A server process has imported what commands import and forks for each of them. A ``Fork`` is used as
``subprocess.Popen`` is: its process has a pid of its own, can be killed by any signal, and has the
streams, folder and environment that it was given. What is only true of a process that starts from
nothing (what it imports and when, options of the interpreter) needs ``subprocess``.
"""

from __future__ import annotations

import array
import atexit
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).parent.parent
READ_WHEN_USED = {
    "COLUMNS", "LINES", "TERM", "NO_COLOR", "FORCE_COLOR", "PATH", "PYTEST_CURRENT_TEST",
    "XDG_STATE_HOME", "HF_TOKEN", "LORITA_API_KEY", "WORLD_SIZE", "RANK", "LOCAL_RANK",
    "MASTER_ADDR", "MASTER_PORT",
}  # fmt: skip
"""Variables that no import looks at: a fork may have others than its server."""
WITHOUT_TORCH = (["-m", "lorita", "preview"],)
"""Commands that import no torch if they can: that is only true of a process of their own."""

SET_BY_LIBRARIES = {
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY", "DISABLE_SAFETENSORS_CONVERSION",
    "GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR", "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK",
    "ARROW_DEFAULT_MEMORY_POOL", "MIMALLOC_ARENA_RESERVE", "OPENBLAS_NUM_THREADS",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS", "HF_HUB_DISABLE_TELEMETRY",
}  # fmt: skip
"""What lorita and libraries set in a process that uses them, so that its children have it."""
READ_BY_THE_HUB = {
    "HF_HOME", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_XET", "HF_DATASETS_CACHE",
}  # fmt: skip
"""What the hub's client and what stands on it read when they are imported."""
SOURCES = {str(ROOT), str(ROOT / "src")}

_common: list[dict[str, str]] = []
_servers: list[Server] = []
_without_hub: list[Server] = []


def offer(environment: Mapping[str, str]) -> None:
    """From now on there is a server for processes with this environment, once one is wanted."""
    _common[:] = [dict(environment)]


@contextmanager
def server_for(environment: Mapping[str, str]) -> Iterator[None]:
    """Inside, there is a server for processes with this environment as well."""
    server = Server(environment)
    _servers.append(server)
    try:
        yield
    finally:
        _servers.remove(server)
        server.close()


def start(
    arguments: Sequence[object], env: Mapping[str, str], *,
    terminal: bool = False, anew: bool = False, **given: Any,
) -> subprocess.Popen[Any]:  # fmt: skip
    """``subprocess.Popen`` of Python with these arguments; a fork where that is the same.

    With ``terminal``, stdin becomes the terminal that controls the process. With ``anew``, the test
    is about what is imported, and it is no fork.
    """
    words = [str(argument) for argument in arguments]
    server = None if anew or words[:3] in WITHOUT_TORCH else _server(env)
    if server is not None:
        return Fork(server, words, terminal=terminal, env=env, **given)
    if terminal:
        given["preexec_fn"] = own_terminal
    return subprocess.Popen([sys.executable, *words], env=env, **given)


def popen(command: Sequence[object], **given: Any) -> subprocess.Popen[Any]:
    """As ``subprocess.Popen``, with forks for Python."""
    if command[0] != sys.executable:
        return subprocess.Popen([str(word) for word in command], **given)
    return start(command[1:], given.pop("env", None) or os.environ, **given)


@contextmanager
def forked_by(module: str) -> Iterator[None]:
    """Inside, the processes that a module of lorita starts are forks."""
    import pytest  # not where a server imports this module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            f"{module}.subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": popen})
        )
        yield


def _server(environment: Mapping[str, str]) -> Server | None:
    """The server whose forks have imported what a process with this environment would."""
    for server in _servers:
        if not _differing(environment, server.environment):
            return server
    if not _common or not hasattr(os, "pidfd_open"):
        return None
    differing = _differing(environment, _common[0])
    if differing and differing <= READ_BY_THE_HUB:
        if not _without_hub:
            _without_hub.append(Server(_common[0], "without-hub"))
        return _without_hub[0]
    if differing:
        return None
    _servers.append(Server(_common[0]))
    return _servers[-1]


def _differing(environment: Mapping[str, str], other: Mapping[str, str]) -> set[str]:
    """The variables with which imports may find something else."""
    differing = {name for name, _ in environment.items() ^ other.items()}
    if _places(environment) == _places(other):
        differing -= {"PYTHONPATH"}
    return differing - READ_WHEN_USED - SET_BY_LIBRARIES


def _places(environment: Mapping[str, str]) -> list[str]:
    """Where modules are found beside lorita and these tests, which every process finds."""
    found = environment.get("PYTHONPATH", "").split(os.pathsep)
    return [place for place in found if place and place not in SOURCES]


def own_terminal() -> None:
    """In a child: stdin is the terminal that controls this process."""
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Server:
    """The process that forks, for one environment; it ends with this process or with ``close``.

    ``kind`` is what it imports: ``everything``, or that ``without-hub``.
    """

    def __init__(self, environment: Mapping[str, str], kind: str = "everything") -> None:
        self.environment = dict(environment)
        self._one_at_a_time = threading.Lock()
        self._asked, its = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fork_server", str(its.fileno()), kind], cwd=ROOT,
            env=self._its_variables(), pass_fds=[its.fileno()], stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        its.close()
        atexit.register(self.close)

    def _its_variables(self) -> dict[str, str]:
        known = self.environment.get("PYTHONPATH")
        return {**self.environment, "PYTHONPATH": os.pathsep.join(filter(None, [known, str(ROOT)]))}

    def fork(self, request: dict[str, Any], streams: list[int]) -> tuple[int, socket.socket]:
        """A new process; returns its id and where its end will be told."""
        ours, its = socket.socketpair()
        with its, self._one_at_a_time:
            passed = array.array("i", [*streams, its.fileno()])
            text = json.dumps(request).encode()
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)
            self._asked.sendmsg([struct.pack("!I", len(text))], [rights])
            self._asked.sendall(text)
        return _number(ours), ours

    def close(self) -> None:
        """End the server; processes that it has forked go on."""
        atexit.unregister(self.close)
        self._asked.close()
        self._process.wait()


class Fork(subprocess.Popen[Any]):
    """``subprocess.Popen([sys.executable, …])`` for a server that has imported everything.

    With ``terminal``, stdin becomes the terminal that controls the process.
    """

    def __init__(
        self, server: Server, arguments: list[Any], *, terminal: bool = False, **given: Any
    ) -> None:
        self._server, self._terminal = server, terminal
        super().__init__([sys.executable, *map(str, arguments)], **given)

    # These three are how Popen starts a process and learns of its end on POSIX.

    def _execute_child(self, args: list[str], *given: Any) -> None:
        cwd, environment = given[4], given[5]
        to_close = given[9:15]  # the ends of the pipes, read and write for each stream
        streams = [to_close[0], to_close[3], to_close[5]]
        request = {
            "arguments": args[1:],
            "folder": os.fspath(cwd or Path.cwd()),
            "environment": dict(os.environ if environment is None else environment),
            "terminal": self._terminal,
            "session": given[20],
        }
        own = [number if stream == -1 else stream for number, stream in enumerate(streams)]
        self.pid, self._told = self._server.fork(request, own)
        self._child_created = True
        self._close_pipe_fds(*to_close)  # type: ignore[attr-defined]

    def _internal_poll(self, _deadstate: int | None = None) -> int | None:
        if self.returncode is None:
            pid, status = self._try_wait(os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        self._told.setblocking(wait_flags == 0)
        try:
            return self.pid, _number(self._told)
        except BlockingIOError:
            return 0, 0


def _number(told: socket.socket) -> int:
    message = told.recv(4)
    assert len(message) == 4, "the server of forks has ended"
    (number,) = struct.unpack("!i", message)
    return int(number)
