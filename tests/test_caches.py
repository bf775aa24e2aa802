"""The tests write nothing into the caches of the user who runs them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from huggingface_hub import constants
from transformers.utils.hub import HF_MODULES_CACHE

from lorita.engine.kernels.library_cache import cache_folder
from lorita.storage.cache import cache_folders
from tests.command import environment

SAY = "from tests.test_caches import places; print(*places(), sep='\\n')"


def places() -> list[Path]:
    hub = [Path(constants.HF_HUB_CACHE), Path(HF_MODULES_CACHE)]
    return [*cache_folders().values(), cache_folder(), *hub]


def test_all_caches_are_temporary() -> None:
    """In this process, and in the commands that tests run."""
    said = subprocess.run(
        [sys.executable, "-c", SAY], env=environment(), capture_output=True, text=True, check=True
    )
    of_commands = [Path(line) for line in said.stdout.splitlines()]
    assert len(of_commands) == len(places()) == 5
    for place in [*places(), *of_commands]:
        assert place.is_relative_to(tempfile.gettempdir()), place
