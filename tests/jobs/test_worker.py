"""What the process of a job makes of an error."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from lorita.errors import ModelError
from lorita.jobs import worker
from lorita.jobs.work_folder import SETTINGS
from lorita.system import signals


@pytest.mark.parametrize(("interrupted", "status"), [(True, worker.STOPPED), (False, "failed")])
def test_an_interruption_that_a_library_lost(
    interrupted: bool, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> None:
        raise ModelError("it does not fit") from TypeError("no shape")

    (tmp_path / SETTINGS).write_text("{}")
    monkeypatch.setattr(worker, "_train", fail)
    monkeypatch.setattr(worker.os, "nice", lambda change: 0)
    monkeypatch.setattr(signals._Asked, "interrupted", time.monotonic() if interrupted else None)
    assert worker._outcome(tmp_path)["status"] == status
