"""Which engine answers: transformers, or llama.cpp."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorita.errors import SettingsError
from lorita.inference.load import open_model

if TYPE_CHECKING:
    from lorita.inference.answers import Answers
    from lorita.inference.resolve import Resolved

ENGINES = ("transformers", "llama.cpp")


def check_engine(engine: str) -> None:
    """Raise ``SettingsError`` unless ``engine`` is one of ``ENGINES``."""
    if engine not in ENGINES:
        raise SettingsError(f"engine = {engine!r}: should be {' or '.join(ENGINES)}")


def open_answers(
    resolved: Resolved, *, dtype: str = "auto", engine: str = "transformers"
) -> Answers:
    """The resolved model, ready to answer through ``engine`` (one of ``ENGINES``)."""
    check_engine(engine)
    if engine == "llama.cpp":
        from lorita.export.llamacpp.model import open_llamacpp

        return open_llamacpp(resolved, dtype)
    return open_model(resolved, dtype)
