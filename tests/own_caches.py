"""Caches of the tests' own, set when this is imported, before any library reads where they are.

The user's caches are left alone, and a test that asks the hub by mistake fails at once. What is
compiled and converted is the same for every run of the tests, so the place is, too.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def _own_place() -> Path:
    place = Path(tempfile.gettempdir()) / f"lorita-tests-{os.getuid()}"
    with suppress(FileExistsError):
        place.mkdir(mode=0o700)
    own = place.lstat().st_uid == os.getuid() and not place.is_symlink()
    return place if own else Path(tempfile.mkdtemp(prefix="lorita-tests-"))


PLACE = _own_place()
os.environ["XDG_CACHE_HOME"] = str(PLACE / "cache")
os.environ["HF_HOME"] = str(PLACE / "huggingface")
for _name in ("HF_HUB_CACHE", "HF_MODULES_CACHE", "HF_XET_CACHE", "HF_ASSETS_CACHE"):
    os.environ.pop(_name, None)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
