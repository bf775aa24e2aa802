"""A tiny chat model for the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.serving.conftest import save_chat_model


@pytest.fixture(scope="session")
def chat_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_chat_model(tmp_path_factory.mktemp("studio-models") / "chat-base")
