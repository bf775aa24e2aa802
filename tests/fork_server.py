"""The server of ``tests.forks``: a process that has imported everything, and forks.

python -m tests.fork_server NUMBER everything|without-hub

It is asked through the file descriptor of this number.
"""

from __future__ import annotations

import array
import atexit
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.forks import own_terminal

COMMON = (
    "peft", "accelerate", "datasets", "pandas", "gguf", "yaml", "rich.progress", "rich.live",
    "ftfy", "py3langid", "torch._dynamo", "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama", "transformers.models.bloom.modeling_bloom",
    "transformers.models.gpt2.tokenization_gpt2", "transformers.generation.utils",
    "transformers.integrations.ggml",
)  # fmt: skip
"""What the commands use beside lorita itself."""
BELOW_THE_HUB = (
    "torch", "torch._dynamo", "torch.distributed", "torch.export", "torch.utils.checkpoint",
    "torch.utils.data", "numpy", "pandas", "pyarrow.parquet", "pyarrow.dataset", "sympy",
    "safetensors.torch", "tokenizers", "httpx", "rich.progress", "rich.live", "rich.table",
    "cyclopts", "pydantic", "jinja2.sandbox", "yaml", "pygal", "PIL.Image", "psutil", "regex",
    "dill", "multiprocess", "fsspec", "xxhash", "filelock", "tqdm.auto", "ftfy", "py3langid",
)  # fmt: skip
"""Most of what they import, but nothing that stands on the hub's client."""


def serve(asked: socket.socket, kind: str) -> None:
    """Answer requests until whoever asks has gone. Everything heavy is imported before."""
    if kind == "everything":
        import_all()
    else:
        import_these(BELOW_THE_HUB)
        assert not {"huggingface_hub", "transformers", "datasets"} & sys.modules.keys()
    gc.freeze()
    with selectors.DefaultSelector() as events:
        events.register(asked, selectors.EVENT_READ)
        while True:
            for key, _ in events.select():
                if key.data is not None:
                    _tell_end(key.fd, *key.data)
                    events.unregister(key.fd)
                    os.close(key.fd)
                elif (request := _receive(asked)) is None:
                    return
                else:
                    words, streams = request
                    pid = os.fork()
                    if pid == 0:
                        events.close()
                        asked.close()
                        _become(words, streams)
                    told = socket.socket(fileno=streams.pop())
                    for stream in streams:
                        os.close(stream)
                    told.sendall(struct.pack("!i", pid))
                    events.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, told))


def _receive(asked: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    streams = array.array("i")
    head, extra, *_ = asked.recvmsg(4, socket.CMSG_LEN(4 * streams.itemsize))
    if not head:
        return None
    for _, _, passed in extra:
        streams.frombytes(passed)
    (size,) = struct.unpack("!I", head)
    text = b""
    while len(text) < size:
        text += asked.recv(size - len(text))
    return json.loads(text), list(streams)


def _tell_end(_: int, pid: int, told: socket.socket) -> None:
    _, status = os.waitpid(pid, 0)
    with told, suppress(OSError):  # nobody may wait any more
        told.sendall(struct.pack("!i", status))


def _become(request: dict[str, Any], streams: list[int]) -> None:
    """In the child: be the process that was asked for, and end."""
    code = 70
    try:
        for number, stream in enumerate(streams[:3]):
            os.dup2(stream, number)
        for stream in streams:
            os.close(stream)
        if request["terminal"]:
            own_terminal()
        elif request["session"]:
            os.setsid()
        else:
            os.setpgid(0, 0)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        _open_streams()
        sys.path[0] = "" if request["arguments"][0] == "-c" else request["folder"]
        code = exit_code(python, request["arguments"])
    finally:
        os._exit(code & 255)


def _open_streams() -> None:
    """Streams as Python opens them at its start: by line in a terminal and for errors."""
    by_line = 1 if os.isatty(1) else -1
    sys.stdin = sys.__stdin__ = os.fdopen(0, closefd=False)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", by_line, closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)


def import_all() -> None:
    """What the commands use; forks share it. Not the page in the browser: few commands need it."""
    from pkgutil import walk_packages

    import lorita

    left_out = ("lorita.studio", "lorita.serving", "lorita.jobs")
    for module in walk_packages(lorita.__path__, "lorita."):
        if not module.name.endswith("__main__") and not module.name.startswith(left_out):
            importlib.import_module(module.name)
    import_these(COMMON)


def import_these(names: tuple[str, ...]) -> None:
    """Import these modules, if they are installed."""
    for name in names:
        with suppress(ImportError):
            importlib.import_module(name)


def exit_code(command: Callable[[list[str]], Any], arguments: list[str]) -> int:
    """Run a program that was forked to its very end."""
    code: Any = 0
    try:
        command(arguments)
    except SystemExit as done:
        code = done.code
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # as Python does at its end
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    if isinstance(code, str):
        print(code, file=sys.stderr, flush=True)
    return code if isinstance(code, int) else int(code is not None)


def lorita_command(arguments: list[str]) -> None:
    """``lorita …``."""
    import lorita.cli

    sys.argv = ["lorita", *arguments]
    lorita.cli.main(arguments)


def python(arguments: list[str]) -> None:
    """``python FILE …``, ``python -m MODULE …`` or ``python -c PROGRAM …``."""
    import runpy

    option, *rest = arguments
    if option == "-m" and rest[0] == "lorita":
        return lorita_command(rest[1:])
    if option == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        return None
    if option == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
        return None
    sys.argv = arguments
    sys.path.insert(0, str(Path(arguments[0]).parent))
    runpy.run_path(arguments[0], run_name="__main__")
    return None


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])
