"""Compiling the kernels: without a compiler, with a broken one, after a change of the source."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

from lorita.engine.kernels import build, native

FOLDER = Path(native.__file__).parent


def test_a_missing_compiler_is_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nonexistent/c++")
    native._load.cache_clear()
    try:
        assert native.kernel("rms_norm", torch.zeros(1)) is None
        assert "plain torch" in native.status()
    finally:
        monkeypatch.undo()
        native._load.cache_clear()


def test_a_compiler_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo 1 && exit 0\necho no >&2; exit 1\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    native._load.cache_clear()
    try:
        assert native.kernel("rms_norm", torch.zeros(1)) is None
        assert "compilation failed (no)" in native.status()
    finally:
        monkeypatch.undo()
        native._load.cache_clear()


def test_elementwise_kernels_work_without_the_attention_kernel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = shutil.which("c++")
    if real is None or native.kernel("rms_norm", torch.zeros(1)) is None:
        pytest.skip(native.status())
    compiler = tmp_path / "c++"
    compiler.write_text(
        f'#!/bin/sh\ncase "$*" in *attention.cpp*) echo no >&2; exit 1;; esac\nexec {real} "$@"\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    native._load.cache_clear()
    try:
        assert native.kernel("rms_norm", torch.zeros(1)) is not None
        assert native.kernel("attention", torch.zeros(1)) is None
        assert native.status().endswith("elementwise operations")
    finally:
        monkeypatch.undo()
        native._load.cache_clear()


@pytest.mark.parametrize("source", native.SIGNATURES)
def test_a_changed_header_is_compiled_again(source: str, tmp_path: Path) -> None:
    """A library is cached under the contents of its source and of every header it includes."""
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    kernels = shutil.copytree(FOLDER, tmp_path / "kernels")
    first = build._key(str(compiler), kernels / source)
    assert build._key(str(compiler), kernels / source) == first
    headers = re.findall(r'#include "(.+)"', (kernels / source).read_text())
    assert headers
    for header in headers:
        (kernels / header).write_text("// changed")
        again = build._key(str(compiler), kernels / source)
        assert again != first
        first = again
