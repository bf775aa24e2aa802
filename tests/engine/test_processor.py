"""Which instructions may be used, and what the settings of the libraries below exclude."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lorita.engine import processor
from lorita.engine.kernels import build, native
from lorita.engine.measured import Ratio
from lorita.engine.numerics import choose_numerics

SERVER = {"sse4_1", "avx", "avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16",
          "amx_tile", "amx_bf16"}  # fmt: skip


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A processor that has everything, and no settings."""
    monkeypatch.setattr(processor, "_flags", lambda: frozenset(SERVER))
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"):
        monkeypatch.delenv(name, raising=False)
    yield monkeypatch


def test_without_settings_all_may_be_used() -> None:
    assert processor.usable_instructions() == SERVER
    assert not processor.compiler_options()
    assert processor.limit() is None


@pytest.mark.parametrize(
    ("settings", "first_excluded", "still_usable"),
    [
        ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, "avx_vnni", "avx2"),
        ({"ONEDNN_MAX_CPU_ISA": "avx2_vnni"}, "avx512f", "avx_vnni"),
        ({"ATEN_CPU_CAPABILITY": "avx2"}, "avx512f", "avx2"),
        ({"ATEN_CPU_CAPABILITY": "default"}, "avx", "sse4_1"),
        ({"DNNL_MAX_CPU_ISA": "AVX512_CORE_VNNI"}, "avx512_bf16", "avx512_vnni"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, "amx_bf16", "avx512_bf16"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "default"}, "avx2", "sse4_1"),
    ],
)
def test_each_setting_is_a_limit(
    settings: dict[str, str],
    first_excluded: str,
    still_usable: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    usable = processor.usable_instructions()
    assert still_usable in usable
    assert first_excluded not in usable
    assert f"-mno-{first_excluded.replace('_', '')}" in [
        option.replace("amx-", "amx") for option in processor.compiler_options()
    ]
    assert all(f"{name}={value}" in str(processor.limit()) for name, value in settings.items())


@pytest.mark.parametrize("value", ["", "AVX9", "DEFAULT"])
def test_what_the_libraries_ignore_is_no_limit(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", value)
    assert processor.usable_instructions() == SERVER


def test_a_setting_that_takes_bf16_products_away_takes_the_format_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert choose_numerics().dtype == torch.bfloat16
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setattr("lorita.engine.numerics.measured_ratio", lambda what: Ratio(0.2, 0.2))
    numerics = choose_numerics()
    assert numerics.dtype == torch.float32
    assert any("ONEDNN_MAX_CPU_ISA=AVX2" in reason for reason in numerics.reasons)


def test_libraries_with_and_without_a_limit_have_their_own_place_in_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    source = Path(native.__file__).with_name("native.cpp")
    keys = set()
    for value in ("", "AVX2", "AVX2_VNNI", "AVX512_CORE"):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", value)
        keys.add(build._key(str(compiler), source))
    assert len(keys) == 4
