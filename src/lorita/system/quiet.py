"""Keep other libraries' progress bars and notices out of lorita's output."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, suppress
from logging import CRITICAL
from pathlib import Path


@contextmanager
def quiet_libraries(*, hide_bars: bool = False) -> Iterator[None]:
    """Silence progress bars and notices of transformers and datasets inside, then restore them.

    ``hide_bars`` also hides bars that cannot be switched off, by discarding stderr (transformers
    draws one with plain tqdm while reading a GGUF file). Download bars stay.
    """
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    level = transformers_logging.get_verbosity()
    datasets_bars = "datasets" in sys.modules and _datasets_bars_on()
    datasets_level = _datasets_level(CRITICAL) if "datasets" in sys.modules else None
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    if datasets_bars:
        _set_datasets_bars(False)
    try:
        with warnings.catch_warnings(), _hidden_stderr() if hide_bars else nullcontext():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
        if datasets_bars:
            _set_datasets_bars(True)
        if datasets_level is not None:
            _datasets_level(datasets_level)


def settle_tqdm() -> None:
    """Import tqdm's choice of bars, without its advice to install widgets for notebooks.

    Libraries import it in the middle of a run; it warns once, where it is imported first.
    """
    with warnings.catch_warnings(), suppress(ImportError):
        warnings.simplefilter("ignore")
        import tqdm.auto  # noqa: F401


@contextmanager
def _hidden_stderr() -> Iterator[None]:
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        yield


def _datasets_bars_on() -> bool:
    from datasets.utils import are_progress_bars_disabled

    return not are_progress_bars_disabled()


def _datasets_level(level: int) -> int:
    """Set the log level of datasets; returns the previous one."""
    from datasets.utils import logging

    before: int = logging.get_verbosity()
    logging.set_verbosity(level)
    return before


def _set_datasets_bars(on: bool) -> None:
    from datasets.utils import disable_progress_bars, enable_progress_bars

    enable_progress_bars() if on else disable_progress_bars()
