"""A full or read-only disk: one clear message, and the last checkpoint stays intact."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lorita.errors import RunFailed
from lorita.training.checkpoint import list_checkpoints
from lorita.training.checkpoint_state import read_state
from lorita.training.events import Event, StepDone
from tests.runs.test_run import train
from tests.training.test_resume import OPTIONS, adapter, resume

resource = pytest.importorskip("resource")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Limit files to ``size`` bytes, which to a program looks like a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fails_at(run: Path, model: Path, data: Path, harm: Callable[[], None], step: int) -> str:
    """The message of a run during which ``harm`` is called after a step."""

    def on_event(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == step:
            harm()

    with pytest.raises(RunFailed) as caught:
        train(run, model, data, **OPTIONS, save_steps=2, on_event=on_event)
    return str(caught.value)


def nothing_is_lost(run: Path, whole: Path, *, step: int) -> None:
    """The last checkpoint is intact, no partial file is left, and the run can be finished."""
    last = list_checkpoints(run)[-1]
    assert read_state(last)["step"] == step
    assert not (run / "lorita.json").exists()
    resume(run)
    assert adapter(run) == adapter(whole)
    assert not list(run.rglob(".*.part"))


@pytest.fixture(scope="module")
def whole(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run; its data is in the same folder."""
    from tests import tiny

    folder = tmp_path_factory.mktemp("whole")
    data = tiny.write_csv(folder / "prompts.csv", tiny.make_texts(24))
    train(folder / "run", llama, data, **OPTIONS)
    return folder / "run"


@pytest.mark.parametrize("size", [1_000, 20_000])
def test_no_room_for_files(llama: Path, whole: Path, tmp_path: Path, size: int) -> None:
    run = tmp_path / "run"
    limit = largest_file(size)
    try:
        message = fails_at(run, llama, whole.parent / "prompts.csv", limit.__enter__, 3)
    finally:
        limit.__exit__(None, None, None)
    assert "cannot be written (File too large)" in message
    assert f"{run / 'checkpoint-2'} is whole" in message
    assert f"lorita train {run} --resume" in message
    nothing_is_lost(run, whole, step=2)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_full_disk(llama: Path, whole: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        run, filler = disk / "run", disk / "filler"

        def fill() -> None:
            with filler.open("wb", buffering=0) as file:
                try:
                    while file.write(b"x" * 4096):
                        pass
                except OSError:
                    return

        message = fails_at(run, llama, whole.parent / "prompts.csv", fill, 3)
        assert "No space left on device" in message
        assert f"{run / 'checkpoint-2'} is whole" in message
        filler.unlink()
        nothing_is_lost(run, whole, step=2)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)  # files may still be mapped


def test_folder_that_becomes_read_only(llama: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    is_root = os.geteuid() == 0

    def lock() -> None:
        if is_root:
            os.seteuid(65534)  # root can write anywhere: continue as a user who cannot
        else:
            run.chmod(0o500)

    try:
        message = fails_at(run, llama, whole.parent / "prompts.csv", lock, 3)
    finally:
        if is_root:
            os.seteuid(0)
        else:
            run.chmod(0o755)
    assert "cannot be written (Permission denied)" in message
    nothing_is_lost(run, whole, step=2)
