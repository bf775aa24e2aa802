"""What is chosen for which machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lorita.engine.kernels import native
from lorita.engine.measured import Ratio
from lorita.engine.numerics import (
    choose_dtype,
    choose_float32_route,
    choose_numerics,
    choose_threads,
    int8_reason,
    int8_suits,
    usable_cores,
)


def never() -> float:
    raise AssertionError("measured without need")


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16"])
def test_flags_decide(flag: str) -> None:
    dtype, why = choose_dtype(frozenset({"avx2", flag}), never)
    assert dtype == torch.bfloat16
    assert flag in why


@pytest.mark.parametrize(
    ("ratio", "dtype"),
    [
        (Ratio(0.3, 0.3), torch.float32),
        (Ratio(2.5, 2.5), torch.bfloat16),
        (Ratio(3.1, 4.6), torch.bfloat16),
        (Ratio(0.9, 2.6), torch.float32),
    ],
)
def test_without_flags_it_is_measured(ratio: Ratio, dtype: torch.dtype) -> None:
    chosen, why = choose_dtype(frozenset({"avx2"}), lambda: ratio)
    assert chosen == dtype
    assert str(ratio) in why
    assert ("too busy to tell" in why) is (ratio.low == 0.9)


@pytest.mark.parametrize(
    ("usable", "default", "asked", "threads"),
    [(2, 8, None, 2), (8, 4, None, 4), (2, 3, "3", 3)],
)
def test_threads(usable: int, default: int, asked: str | None, threads: int) -> None:
    assert choose_threads(usable, default, asked)[0] == threads


def test_a_containers_cpu_quota_counts(tmp_path: Path) -> None:
    free = usable_cores(tmp_path)
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert usable_cores(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert usable_cores(tmp_path) == free


def test_this_machine() -> None:
    numerics = choose_numerics()
    assert numerics.dtype in (torch.float32, torch.bfloat16)
    assert numerics.threads >= 1
    assert all(reason for reason in numerics.reasons)
    assert choose_numerics("float32").dtype == torch.float32
    assert native.status()


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (Ratio(4.0, 4.0), "4.0 times as fast as bfloat16"),
        (Ratio(1.1, 1.1), "1.1 times as fast as bfloat16, so --base-precision int8 gains little"),
        (Ratio(0.8, 1.6), "0.8 to 1.6 times as fast as bfloat16; the machine is too busy to tell"),
        (Ratio(0.01, 0.02), "less than 0.1 times as fast as bfloat16, so"),
    ],
)
def test_int8_reason_states_the_gain(
    ratio: Ratio, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorita.engine.numerics.measured_ratio", lambda what, than: ratio)
    assert verdict in int8_reason(torch.bfloat16)
    assert ("gains" in int8_reason(torch.bfloat16)) is (ratio.low < 1.2)


def test_the_float32_route_depends_on_the_processors_maker_alone() -> None:
    assert choose_float32_route("AuthenticAMD")[0] is torch.backends.mkldnn.is_available()
    assert not choose_float32_route("GenuineIntel")[0]
    assert not choose_float32_route("")[0]


def test_int8_is_recommended_only_where_nobody_chose_and_only_weights_are_rounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if native.kernel("int8_forward", torch.empty(0)) is None:
        pytest.skip(native.status())
    bits = {"bits": 16}
    monkeypatch.setattr("lorita.engine.kernels.int8.activation_bits", lambda: bits["bits"])
    assert int8_suits("auto", torch.float32, "cpu")
    assert not int8_suits("float32", torch.float32, "cpu")
    assert not int8_suits("auto", torch.bfloat16, "cpu")
    assert not int8_suits("auto", torch.float32, "cuda")
    with native.disabled():
        assert not int8_suits("auto", torch.float32, "cpu")
    bits["bits"] = 8
    assert not int8_suits("auto", torch.float32, "cpu")
