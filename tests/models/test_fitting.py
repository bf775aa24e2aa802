"""In which form weights are held where memory is short."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorita.errors import ModelError
from lorita.models.base import Base, find_base
from lorita.models.fitting import Fit, choose_form, fitting_form
from lorita.models.memory_needs import Needs
from lorita.system.memory import CONTAINER, Room
from tests import tiny
from tests.models.gguf_bases import write_gguf


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("llama"))


@pytest.mark.parametrize(
    ("free", "may_change", "may_page", "expected", "why"),
    [
        (1000, True, True, 4, None),
        (950, True, True, 2, "bfloat16, because float32 would need"),  # too tight for float32
        (850, True, True, 2, "bfloat16, because float32 would need"),
        (850, False, True, 4, "Memory is short"),
        (850, False, False, None, ""),
        (700, True, True, 2, "bfloat16, because float32 would need"),
        (470, True, True, 2, "Memory is short"),
        (470, True, False, None, ""),
        (700, False, True, None, ""),
        (300, True, True, None, ""),
    ],
)
def test_the_widest_format_that_fits(
    llama: Path, free: int, may_change: bool, may_page: bool, expected: int | None, why: str | None
) -> None:
    """Pages are read again and again only where no format fits, and never for each step."""
    bytes_of = {4: 900, 2: 500}
    here, base = Room(free, 0, CONTAINER), find_base(str(llama))

    def choose() -> Fit:
        return choose_form(
            "x", base, 4, lambda form, size: Needs({"weights": bytes_of[size]}), here,
            may_change=may_change, may_page=may_page, hint="",
        )  # fmt: skip

    if expected is None:
        with pytest.raises(ModelError, match="needs about"):
            choose()
        return
    form, size, said = choose()
    assert (form, size) == (base, expected)
    assert said is None if why is None else why in (said or "")


def needs_of_forms(form: Base, size: int) -> Needs:
    return Needs({"weights": 250 if form.precision else 225 * size})


@pytest.mark.parametrize("free", [500, 400])
def test_a_quantised_file_stays_so_where_nothing_else_fits(tmp_path: Path, free: int) -> None:
    base = find_base(str(write_gguf(tmp_path, "llama", quantize="q8_0")))
    here = Room(free, 0, CONTAINER)
    form, size, why = choose_form(
        "x", base, 4, needs_of_forms, here, may_change=True, may_page=False, hint=""
    )
    if free == 500:
        assert (form.precision, size) == (None, 2)
        return
    assert (form.precision, size) == ("native", 2)
    assert "they stay quantised, as with --base-precision native, because float32" in (why or "")
    with pytest.raises(ModelError, match="needs about"):  # weights that are trained cannot be
        choose_form(
            "x", base, 4, needs_of_forms, here,
            may_change=True, may_page=False, hint="", may_quantise=False,
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["f16", "folder"])
def test_what_is_not_quantised_does_not_stay_so(tmp_path: Path, llama: Path, kind: str) -> None:
    path = llama if kind == "folder" else write_gguf(tmp_path, "llama", quantize="f16")
    with pytest.raises(ModelError, match="needs about"):
        choose_form(
            "x", find_base(str(path)), 4, needs_of_forms, Room(400, 0, CONTAINER),
            may_change=True, may_page=False, hint="",
        )  # fmt: skip


def test_a_base_that_was_asked_to_stay_quantised_needs_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from lorita.models import memory_needs

    base = find_base(str(write_gguf(tmp_path, "llama", quantize="q8_0")))
    monkeypatch.setattr(memory_needs, "EXPANDED", 0)
    sizes = memory_needs.base_sizes(base)
    assert sizes is not None
    native = replace(base, precision="native")
    kept = memory_needs.weight_bytes(native, sizes, 4)
    assert kept == sizes.blocks + 4 * sizes.unpacked
    assert sizes.unpacked < sizes.numbers / 50 and kept < 4 * sizes.numbers / 3
    assert memory_needs.weight_bytes(base, sizes, 4) == 4 * sizes.numbers
    monkeypatch.setattr(memory_needs, "room", lambda: None)
    assert fitting_form(native, 4, may_change=True) == Fit(native, 4)
