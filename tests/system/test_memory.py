"""Limits on memory: which one counts, and errors instead of a killed process."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lorita.system import memory
from tests.command import environment


def cgroup(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, limit: int, used: int, v2: bool
) -> None:
    files = memory._V2 if v2 else memory._V1
    folder.mkdir(exist_ok=True)
    for name, text in zip(files, (limit, used, f"cache 1\n{files[2]} 1000"), strict=True):
        (folder / ("memory.stat" if name == files[2] else name)).write_text(f"{text}\n")
    monkeypatch.setattr(memory, "_cgroup_folders", lambda: [(folder, files)])


@pytest.mark.parametrize("v2", [True, False])
def test_a_container_is_what_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, v2: bool
) -> None:
    cgroup(tmp_path, monkeypatch, limit=600_000_000, used=500_000_000, v2=v2)
    here = memory.room()
    assert here is not None
    assert (here.free, here.allowed, here.limit) == (100_001_000, 600_000_000, memory.CONTAINER)
    assert memory.available_memory() == here.free


def test_no_limit_in_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cgroup(tmp_path, monkeypatch, limit=2**62, used=5, v2=False)
    here = memory.room()
    assert here is not None and here.limit == memory.MACHINE


def test_an_allocation_beyond_the_container_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroup(tmp_path, monkeypatch, limit=400_000_000, used=300_000_000, v2=True)
    with memory.errors_before_the_limit():
        for take in (lambda: torch.empty(10**9, dtype=torch.uint8), lambda: bytearray(10**9)):
            with pytest.raises((RuntimeError, MemoryError)) as caught:
                take()
            assert memory.is_out_of_memory(caught.value)
        torch.empty(10**7, dtype=torch.uint8)
    torch.empty(10**9, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you"), True),
        (RuntimeError("unable to mmap 538090408 bytes from file </x>: Cannot allocate"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (RuntimeError("a model with a memory module"), False),
    ],
)
def test_which_errors_mean_it(error: Exception, expected: bool) -> None:
    assert memory.is_out_of_memory(error) is expected


@pytest.mark.parametrize("command", ["train", "generate", "merge", "doctor"])
def test_too_few_addresses_for_the_libraries(command: str) -> None:
    """One message in a moment, instead of a traceback out of an import."""
    resource = pytest.importorskip("resource")

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (300_000_000, 300_000_000))

    done = subprocess.run(
        [sys.executable, "-m", "lorita", command, "x", "y"],
        capture_output=True, text=True, env=environment(), preexec_fn=limited, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"Error: lorita {command} needs about ")
    assert "ulimit -v allows 0.3 GB" in done.stderr


def test_libraries_reserve_no_more_addresses_than_they_need() -> None:
    """pyarrow's own allocator alone reserves a gigabyte."""
    resource = pytest.importorskip("resource")

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (1_500_000_000, 1_500_000_000))

    code = (
        "from lorita.system.memory import save_addresses; save_addresses(); import datasets, os;"
        "lines = open('/proc/self/status').read().split();"
        "print(lines[lines.index('VmSize:') + 1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, preexec_fn=limited, check=True,
        env=environment(),
    )  # fmt: skip
    assert int(done.stdout) * 1024 < 1_100_000_000
