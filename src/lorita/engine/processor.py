"""What this machine's processor can do, and what of it may be used.

Two settings of the libraries below limit the instructions that they use: oneDNN's
``ONEDNN_MAX_CPU_ISA`` and torch's ``ATEN_CPU_CAPABILITY``. Either limits every choice of the engine
and its own kernels, so that a smaller processor can be simulated on a larger one. Names of
instructions are Linux's, as in ``/proc/cpuinfo``.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

_LEVELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("SSE41", ()),
    ("AVX", ("avx",)),
    ("AVX2", ("avx2", "fma", "f16c")),
    ("AVX2_VNNI", ("avx_vnni",)),
    ("AVX2_VNNI_2", ("avx_vnni_int8", "avx_ne_convert")),
    ("AVX512_CORE", ("avx512f", "avx512bw", "avx512vl", "avx512dq")),
    ("AVX512_CORE_VNNI", ("avx512_vnni",)),
    ("AVX512_CORE_BF16", ("avx512_bf16",)),
    ("AVX512_CORE_FP16", ("avx512_fp16",)),
    ("AVX512_CORE_AMX", ("amx_tile", "amx_int8", "amx_bf16")),
    ("AVX512_CORE_AMX_FP16", ("amx_fp16",)),
)
"""oneDNN's names, least first, with the instructions that each adds."""
_OF_TORCH = {"default": "SSE41", "avx2": "AVX2", "avx512": "AVX512_CORE_AMX_FP16"}
"""torch's names; it leaves products to oneDNN, which has a limit of its own."""
_COMPILED = {
    "avx": "avx",
    "avx2": "avx2",
    "fma": "fma",
    "f16c": "f16c",
    "avx_vnni": "avxvnni",
    "avx512f": "avx512f",
    "avx512_vnni": "avx512vnni",
    "avx512_bf16": "avx512bf16",
    "avx512_fp16": "avx512fp16",
    "amx_tile": "amx-tile",
    "amx_int8": "amx-int8",
    "amx_bf16": "amx-bf16",
}
"""GCC's and Clang's names. Without avx512f, nothing of AVX-512 remains."""


def usable_instructions() -> frozenset[str]:
    """The flags of the first processor, less what the settings exclude; empty off Linux."""
    return _flags() - _excluded()


def has_bf16_products() -> bool:
    """Whether oneDNN has bf16 products for this processor; on x86 it has none below AVX-512.

    They may be slower than float32 (``numerics.choose_dtype``), but not many times so.
    """
    flags = usable_instructions()
    return "avx2" not in flags or "avx512f" in flags


def has_float16_products() -> bool:
    """Whether oneDNN has float16 products for this processor; on x86, few have the instructions."""
    flags = usable_instructions()
    return "avx2" not in flags or not flags.isdisjoint({"avx512_fp16", "amx_fp16"})


def compiler_options() -> list[str]:
    """What keeps a compiler for this processor from the instructions that the settings exclude."""
    unwanted = _flags() & _excluded()
    return [f"-mno-{name}" for flag, name in _COMPILED.items() if flag in unwanted]


def limit() -> str | None:
    """The settings that exclude instructions, for people; None if they exclude none."""
    if not _flags() & _excluded():
        return None
    return " and ".join(f"{name}={value}" for name, value, _ in _settings())


def processor_vendor() -> str:
    """The maker of the first processor, by Linux's name; empty on other systems."""
    return _cpuinfo("vendor_id")


def _settings() -> list[tuple[str, str, str]]:
    """The settings that are set: name, value and the level that the value stands for."""
    known = {level for level, _ in _LEVELS}
    found = []
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"):
        value = os.environ.get(name, "")
        level = _OF_TORCH.get(value, "") if name.startswith("ATEN") else value.upper()
        if level in known:  # the libraries ignore anything else, too
            found.append((name, value, level))
    return found


def _excluded() -> frozenset[str]:
    names = [level for level, _ in _LEVELS]
    highest = min((names.index(level) for _, _, level in _settings()), default=len(names))
    return frozenset(flag for _, flags in _LEVELS[highest + 1 :] for flag in flags)


@functools.cache
def _flags() -> frozenset[str]:
    return frozenset(_cpuinfo("flags", "Features").split())


def _cpuinfo(*names: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return ""
