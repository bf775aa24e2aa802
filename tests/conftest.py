"""Fixtures: tiny models on disk, made once; no network; the user's caches are left alone."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import own_caches, tiny
from tests.command import environment
from tests.forks import offer

assert own_caches.PLACE  # set before the libraries of ``tiny`` look

_COUNTER = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def _own_caches(tmp_path_factory: pytest.TempPathFactory) -> None:
    import datasets

    folder = str(tmp_path_factory.mktemp("datasets-cache"))
    datasets.config.HF_DATASETS_CACHE = folder
    os.environ["HF_DATASETS_CACHE"] = folder  # for the commands that tests run
    offer(environment())


@pytest.fixture(autouse=True)
def _own_answers(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test allows is not remembered in the next one, nor for the user."""
    place = tmp_path_factory.getbasetemp() / "states" / str(next(_COUNTER))
    monkeypatch.setenv("XDG_STATE_HOME", str(place))


@pytest.fixture(autouse=True)
def _own_route() -> Iterator[None]:
    """A run chooses the route of float32 products for its process; the next test chooses anew."""
    yield
    if "lorita.engine.kernels.products" in sys.modules:
        sys.modules["lorita.engine.kernels.products"].use_onednn_float32(False)


@pytest.fixture(autouse=True)
def _own_threads() -> Iterator[None]:
    """Results depend on the number of threads: a test that leaves another one fails itself, instead
    of one that comes after it."""
    before = _threads()
    yield
    after = _threads()
    if before and after != before:
        sys.modules["torch"].set_num_threads(before)
        pytest.fail(f"torch had {before} threads before this test, and {after} after it")


def _threads() -> int | None:
    return sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("models") / "llama", "llama")


@pytest.fixture(scope="session")
def bloom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("models") / "bloom", "bloom")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return tiny.write_csv(tmp_path / "prompts.csv", tiny.make_texts(24))
