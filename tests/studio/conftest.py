"""A tiny chat model for the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forks import forked_by
from tests.serving.conftest import save_chat_model


@pytest.fixture(scope="session", autouse=True)
def _forks() -> Iterator[None]:
    """The processes that the page starts have imported everything."""
    with forked_by("lorita.studio.jobs"):
        yield


@pytest.fixture(scope="session")
def chat_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_chat_model(tmp_path_factory.mktemp("studio-models") / "chat-base")
