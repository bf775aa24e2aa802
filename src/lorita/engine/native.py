"""Compile ``native.cpp`` once with the system's C++ compiler, keep it, and call it.

Nothing depends on it: where there is no compiler, or on a GPU, the same operations run in plain
torch, beside the call. We compile kernels of our own rather than use ``torch.compile`` because they
need no guards, do not recompile when lengths change, and load in a millisecond.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("native.cpp")
# Reassociation lets sums run in vector lanes; NaN and infinity keep their meaning, because a
# diverged run is found by them.
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
P, N, F, C = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
SIGNATURES = {
    "rms_norm": (P, P, P, P, N, N, F, C),
    "rms_norm_back": (P, P, P, P, P, N, N, C),
    "gated": (P, P, P, N, N, N, C),
    "gated_back": (P, P, P, P, P, N, N, N, C),
    "gelu": (P, P, N, N),
    "gelu_back": (P, P, P, N, N),
    "heads": (P, P, P, P, P, P, N, N, N, N, N, N, N, C),
    "softmax": (P, P, P, N, N, N, N, N, N, N, F, F),
    "softmax_back": (P, P, P, N, N, F, F),
    "cross_entropy": (P, P, P, N, N, F, F, C),
    "quantize": (P, P, P, P, N, N),
    "rescale": (P, P, P, P, N, N),
}
_SUFFIX = {torch.bfloat16: "bf16", torch.float32: "f32"}
_switch = {"on": True}


def kernel(name: str, like: torch.Tensor) -> ctypes._NamedFuncPointer | None:
    """The compiled function for tensors like this one; None where torch has to do it."""
    if like.device.type != "cpu" or like.dtype not in _SUFFIX or not _switch["on"]:
        return None
    library, _ = _load()
    return getattr(library, f"{name}_{_SUFFIX[like.dtype]}") if library is not None else None


def status() -> str:
    """In words: whether the kernels are compiled, or why not."""
    return _load()[1]


@contextmanager
def disabled() -> Iterator[None]:
    """Inside, everything runs in plain torch."""
    before = _switch["on"]
    _switch["on"] = False
    try:
        yield
    finally:
        _switch["on"] = before


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if compiler is None or shutil.which(compiler) is None:
        return None, "no C++ compiler found: elementwise work runs in plain torch"
    if not sys.platform.startswith("linux"):
        return None, f"compiled kernels are for Linux; on {sys.platform} plain torch is used"
    try:
        path = _built(compiler)
        library = ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        first = detail.strip().splitlines()[0] if detail.strip() else type(error).__name__
        return None, f"kernels could not be compiled ({first}): plain torch is used"
    for name, signature in SIGNATURES.items():
        for suffix in _SUFFIX.values():
            function = getattr(library, f"{name}_{suffix}")
            function.argtypes, function.restype = signature, None
    return library, f"elementwise kernels compiled by {Path(compiler).name}"


def _built(compiler: str) -> Path:
    """The shared library for this source, compiler and processor; compiled if it is not there."""
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, check=True
    ).stdout
    source = SOURCE.read_bytes()
    key = hashlib.sha256("\0".join((version, *FLAGS, _processor())).encode() + source)
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lorita"
    target = folder / f"kernels-{key.hexdigest()[:16]}.so"
    if target.exists():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = tempfile.mkdtemp(dir=folder, prefix=".kernels-")
    except OSError:  # a home that cannot be written: compile for this process alone
        part = tempfile.mkdtemp(prefix="lorita-kernels-")
        target = Path(part) / target.name
    output = Path(part) / "kernels.so"
    # torch's own OpenMP is in memory already under the same name, so both share its threads.
    command = [compiler, *FLAGS, str(SOURCE), "-o", str(output)]
    subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    output.replace(target)
    if target.parent != Path(part):
        shutil.rmtree(part, ignore_errors=True)
    return target


def _processor() -> str:
    """What ``-march=native`` depends on: machines that share a cache must not share a library."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))
