"""Fixtures: tiny models on disk, made once; no network; the user's caches are left alone."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import order, own_caches
from tests.command import environment
from tests.forks import offer

assert own_caches.PLACE  # set before the libraries look
# They are imported where they are used: the process that only hands out tests needs none of them.

_COUNTER = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that all workers are busy until the end."""
    items.sort(key=lambda item: order.rank(item.nodeid))  # stable: within a file as it is


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """``--dist loadfile``, but files that share what is costly to make go to one worker."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    scheduler = LoadFileScheduling(config, log)
    scheduler._split_scope = order.together  # type: ignore[method-assign]
    return scheduler


@pytest.fixture(scope="session", autouse=True)
def _own_caches(tmp_path_factory: pytest.TempPathFactory) -> None:
    import datasets

    folder = str(tmp_path_factory.mktemp("datasets-cache"))
    datasets.config.HF_DATASETS_CACHE = folder
    os.environ["HF_DATASETS_CACHE"] = folder  # for the commands that tests run
    offer(environment())


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """Libraries set variables for their process: the next test finds those that were there before,
    and its commands can be forked from the same server."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


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
    from tests import tiny

    return tiny.save_model(tmp_path_factory.mktemp("models") / "llama", "llama")


@pytest.fixture(scope="session")
def bloom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests import tiny

    return tiny.save_model(tmp_path_factory.mktemp("models") / "bloom", "bloom")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    from tests import tiny

    return tiny.write_csv(tmp_path / "prompts.csv", tiny.make_texts(24))
