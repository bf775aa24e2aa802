"""``lorita`` and ``python`` for a shell, without the seconds that importing takes each time.

A server process has imported everything and forks for each command; what stands on the ``PATH`` is
a small client that hands over its arguments, folder, environment and streams. So pipes,
redirections and ``&&`` are the shell's own, and the exit code is the command's.

    python -m tests.docs.warm SOCKET    # the server
"""

from __future__ import annotations

import array
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.fork_server import exit_code, import_all, lorita_command, python

ROOT = Path(__file__).parent.parent.parent
CLIENT = """#!{python} -ISE
import array, json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({socket!r})
    request = json.dumps([{program!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    streams = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))
    server.sendmsg([len(request).to_bytes(4, "big")], [streams])
    server.sendall(request)
    answer = server.recv(1)
sys.exit(answer[0] if answer else 70)
"""


@contextmanager
def warm(folder: Path, **environment: str) -> Iterator[Path]:
    """Start a server; yields the folder for the ``PATH``, with ``lorita`` and ``python`` in it."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    place = folder / "socket"
    for name in ("lorita", "python"):
        client = programs / name
        text = CLIENT.format(python=sys.executable, socket=str(place), program=name)
        client.write_text(text, encoding="utf-8")
        client.chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.docs.warm", str(place)],
        cwd=ROOT, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not place.exists():
            assert server.poll() is None, "the server of warm commands did not start"
            time.sleep(0.02)
        yield programs
    finally:
        server.terminate()
        server.wait()


def serve(place: str) -> None:
    """Answer requests until the process is ended. Everything heavy is imported before."""
    import_all()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{place}.new")
        listener.listen()
        Path(f"{place}.new").rename(place)
        while True:
            with listener.accept()[0] as client:
                if os.fork() == 0:
                    listener.close()
                    _answer(client)


def _answer(client: socket.socket) -> None:
    """In the child: become the command, tell its exit code, and end."""
    code = 70
    try:
        streams = array.array("i")
        head, extra, *_ = client.recvmsg(4, socket.CMSG_LEN(3 * streams.itemsize))
        for _, _, data in extra:
            streams.frombytes(data)
        size = int.from_bytes(head, "big")
        request = b""
        while len(request) < size:
            request += client.recv(size - len(request))
        program, arguments, folder, environment = json.loads(request)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        elsewhere = environment["HF_HOME"] != os.environ["HF_HOME"]
        os.environ.clear()
        os.environ.update(environment)
        if elsewhere:  # another hub than that of the server
            importlib.reload(importlib.import_module("huggingface_hub.constants"))
        code = exit_code({"lorita": lorita_command, "python": python}[program], arguments)
    finally:
        with suppress(OSError):
            client.sendall(bytes([code & 255]))
        os._exit(code & 255)


if __name__ == "__main__":
    serve(sys.argv[1])
