"""Compile a C++ file of this folder once, keep the library in the user's cache, and load it.

A library is loaded from the very file whose hash has been compared with the one kept beside it, so
that one that was cut short by a full disk or a power failure is made again. Where the cache cannot
be used, the library is compiled for this process, and nothing of it stays on disk.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import BinaryIO

from lorita.engine.kernels.library_cache import (
    build_part,
    open_own,
    private_cache,
    remove_abandoned,
    remove_old,
)
from lorita.engine.processor import compiler_options

# Reassociation vectorises sums. NaN and infinity keep their meaning: they reveal a diverged run.
FLAGS = (
    "-O3",
    "-march=native",
    "-std=c++17",
    "-shared",
    "-fPIC",
    "-fopenmp",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fassociative-math",
    "-fno-signed-zeros",
    "-freciprocal-math",
)
EXACT = ("-ffp-contract=off", "-fno-associative-math", "-fno-reciprocal-math", "-fsigned-zeros")
"""For sources whose numbers must be those of another program, bit by bit."""
EXACT_SOURCES = ("expand.cpp",)
PATIENCE = 60
"""Seconds that a compiler may take; they take about three."""


class BuildError(Exception):
    """There is no library; ``str()`` says why."""


def load_library(compiler: str, source: Path) -> tuple[ctypes.CDLL, str]:
    """The compiled ``source``, and a note if it could not be kept for the next process.

    Raises ``BuildError`` if it cannot be compiled or loaded.
    """
    name = f"{source.stem}-{_key(compiler, source)}"
    try:
        cache = private_cache()
        remove_abandoned(cache)
        kept = _kept(cache / f"{name}.so", cache / f"{name}.sha256")
        if kept is not None:
            return kept, ""
        with build_part(cache) as part:
            library, digest = _compiled(compiler, source, part)
            _put(part, name, digest)
            remove_old(cache)
            return library, ""
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home folder
        why = f"{getattr(error, 'filename', None) or '~'}: {getattr(error, 'strerror', None)}"
    with build_part(Path(tempfile.gettempdir())) as part:
        library, _ = _compiled(compiler, source, part)
    return library, f"for this process only: {why}"


def _kept(library: Path, hash_file: Path) -> ctypes.CDLL | None:
    """The library from the cache; None unless it is this user's and as it was written."""
    try:
        with open_own(hash_file) as file:
            wanted = file.read(200)
        content = open_own(library)
    except OSError:
        return None
    if _digest(content) != wanted.strip().decode("ascii", "replace"):
        content.close()
        return None
    try:
        return _load(content, library)
    except OSError:
        return None


def _digest(file: BinaryIO) -> str:
    return hashlib.sha256(file.read()).hexdigest()


_opened: list[BinaryIO] = []
"""The files of loaded libraries stay open: the loader tells libraries apart by name, and the name
of an open file is its number, which a closed file would pass on to the next."""


def _load(file: BinaryIO, path: Path) -> ctypes.CDLL:
    """Load the opened file itself; its name may lead elsewhere by now."""
    _opened.append(file)
    same = Path(f"/proc/self/fd/{file.fileno()}")
    return ctypes.CDLL(str(same if same.exists() else path))


def _compiled(compiler: str, source: Path, part: Path) -> tuple[ctypes.CDLL, str]:
    """The library, compiled into the folder ``part`` and loaded, and the hash of its file."""
    output = part / "kernels.so"
    # torch has already loaded its OpenMP under the same name, so both share its threads.
    _run([compiler, *_flags(source), str(source), "-o", str(output)], part)
    try:
        output.chmod(0o600)
        file = open_own(output)
        digest = _digest(file)
        return _load(file, output), digest
    except OSError as error:
        raise BuildError(f"the result cannot be loaded ({error.strerror or error})") from None


def _put(part: Path, name: str, digest: str) -> None:
    """Move the library into the cache, and its hash beside it; both are on disk before that."""
    (part / "hash").touch(0o600)
    (part / "hash").write_text(f"{digest}\n", encoding="ascii")
    for made, ending in (("kernels.so", "so"), ("hash", "sha256")):
        handle = os.open(part / made, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        (part / made).replace(part.parent / f"{name}.{ending}")


_given_up: set[str] = set()
"""Compilers that did not finish; each is waited for once."""


def _run(command: list[str], folder: Path | None = None) -> str:
    """What a compiler prints. ``BuildError`` if it fails or takes longer than ``PATIENCE``.

    ``folder`` is for its temporary files, which a killed compiler leaves behind.
    """
    compiler = Path(command[0]).name
    if command[0] in _given_up:
        raise BuildError(f"{compiler} was given up after {PATIENCE} seconds")
    environment = {**os.environ, "TMPDIR": str(folder)} if folder is not None else None
    with tempfile.TemporaryFile(dir=folder) as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
            env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            _given_up.add(command[0])
            raise BuildError(f"{compiler} was given up after {PATIENCE} seconds") from None
        finally:
            if process.poll() is None:
                # Its own session, so that the programs it started end with it.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        said.seek(0)
        text = said.read(2**16).decode("utf-8", "replace")
    if code != 0:
        first = text.strip().splitlines()[0] if text.strip() else f"exit code {code}"
        raise BuildError(first)
    return text


def _flags(source: Path) -> tuple[str, ...]:
    """How ``source`` is compiled."""
    exact = EXACT if source.name in EXACT_SOURCES else ()
    return (*FLAGS, *exact, *compiler_options())


def _key(compiler: str, source: Path) -> str:
    """A hash of all that a library depends on: compiler, flags, processor and sources."""
    version = _run([compiler, "--version"])
    key = hashlib.sha256("\0".join((version, *_flags(source), _processor())).encode())
    for file in (source, *sorted(source.parent.glob("*.h"))):
        key.update(file.read_bytes())
    return key.hexdigest()[:16]


@functools.cache
def _processor() -> str:
    """What ``-march=native`` depends on: different machines may share a cache, not a library."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))
