"""The compiled functions of this folder's C++ files, and how they are called.

They are compiled once with the system's compiler and cached (``build``).

Optional: without a compiler, or on a GPU, the same operations run in plain torch, next to the call.
Own kernels rather than ``torch.compile`` because they need no guards, are not recompiled when
lengths change, and load in a millisecond.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lorita.engine.kernels.build import BuildError, load_library

P, N, F, C = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
ELEMENTWISE: dict[str, tuple[Any, ...]] = {
    "rms_norm": (P, P, P, P, N, N, F, C),
    "rms_norm_back": (P, P, P, P, P, N, N, C),
    "gated": (P, P, P, N, N, N, C),
    "gated_back": (P, P, P, P, P, N, N, N, C),
    "gelu": (P, P, N),
    "gelu_back": (P, P, P, N),
    "heads": (P, P, P, P, P, P, N, N, N, N, N, N, N, C),
    "softmax": (P, P, P, N, N, N, N, N, N, N, F, F),
    "softmax_back": (P, P, P, N, N, F, F),
    "cross_entropy": (P, P, P, N, N, F, F, C),
    "drop": (P, P, N, ctypes.c_uint64, ctypes.c_uint32),
    "add_kept": (P, P, N, ctypes.c_uint64, ctypes.c_uint32),
    "column_sums": (P, P, N, N, N),
    "quantize": (P, P, P, P, N, N),
    "quantize16": (P, P, P, P, N, N),
    "rescale": (P, P, P, P, N, N),
}
ATTENTION: dict[str, tuple[Any, ...]] = {
    "attention": (*(P,) * 11, *(N,) * 5, P, F, F),
    "attention_back": (*(P,) * 15, *(N,) * 5, P, F, F),
}
EXPAND: dict[str, tuple[Any, ...]] = {"expand": (P, N, N, P)}
INT8: dict[str, tuple[Any, ...]] = {
    "int8_forward": (P, P, P, P, P, N, N, N),
    "int8_backward": (P, P, P, P, N, N, N),
}
PRODUCTS: dict[str, tuple[Any, ...]] = {"products": (P, P, P, N, P, N, N), "most_rows": ()}
CACHED: dict[str, tuple[Any, ...]] = {"attend": (P, P, P, N, P, N, P, N, P, P, P, P, N, P)}
SIGNATURES = {
    "native.cpp": ELEMENTWISE,
    "attention.cpp": ATTENTION,
    "int8.cpp": INT8,
    "expand.cpp": EXPAND,
    "decode.cpp": PRODUCTS,
    "cached_attention.cpp": CACHED,
}
"""The functions of each source file. attention.cpp and int8.cpp have none without AVX2."""
RETURNS = {"most_rows": N}
_SOURCE = {name: source for source, functions in SIGNATURES.items() for name in functions}
_SUFFIX = {torch.bfloat16: "bf16", torch.float32: "f32"}
_switch = {"on": True}


def kernel(name: str, like: torch.Tensor) -> ctypes._NamedFuncPointer | None:
    """The compiled function for tensors like this one; None if plain torch has to be used."""
    if like.device.type != "cpu" or like.dtype not in _SUFFIX or not _switch["on"]:
        return None
    library, _ = _load(_SOURCE[name])
    return getattr(library, f"{name}_{_SUFFIX[like.dtype]}", None) if library is not None else None


def status() -> str:
    """Which kernels are compiled, or why none are, for people."""
    library, words = _load("native.cpp")
    attention, _ = _load("attention.cpp")
    if library is None:
        return words
    formats = [str(dtype).removeprefix("torch.") for dtype in _SUFFIX
               if hasattr(attention, f"attention_{_SUFFIX[dtype]}")]  # fmt: skip
    also = f", attention in {' and '.join(formats)}" if formats else ""
    return f"{words}: elementwise operations{also}"


@functools.cache
def build() -> str:
    """A hash of the compiled kernels, which compute as this compiler and processor made them."""
    found = hashlib.sha256()
    for source in SIGNATURES:
        library, words = _load(source)
        if library is None:
            return words
        found.update(Path(library._name).read_bytes())
    return found.hexdigest()


@contextmanager
def disabled() -> Iterator[None]:
    """In this context everything runs in plain torch."""
    before = _switch["on"]
    _switch["on"] = False
    try:
        yield
    finally:
        _switch["on"] = before


@functools.cache
def _load(source: str) -> tuple[ctypes.CDLL | None, str]:
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if compiler is None or shutil.which(compiler) is None:
        return None, "plain torch, because no C++ compiler was found"
    if not sys.platform.startswith("linux"):
        return None, f"plain torch, because the kernels are for Linux, not {sys.platform}"
    try:
        library, note = load_library(compiler, Path(__file__).with_name(source))
    except (BuildError, OSError) as error:
        return None, f"plain torch, because compilation failed ({error})"
    for name, signature in SIGNATURES[source].items():
        for suffix in _SUFFIX.values():
            function = getattr(library, f"{name}_{suffix}", None)
            if function is not None:
                function.argtypes, function.restype = signature, RETURNS.get(name)
    words = f"compiled with {Path(compiler).name}"
    return library, f"{words} ({note})" if note else words
