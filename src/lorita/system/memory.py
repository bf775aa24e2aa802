"""How much memory is available and how much is in use.

Limits of containers count as well as those of the host: the control groups of this process and all
above it, in both Linux layouts (v1 and v2), and the limit on its address space (``ulimit -v``).
What a command will take is reckoned elsewhere (``lorita.models.memory_needs``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_ARENA_MAX = -8
"""glibc's number for the limit on arenas."""
CGROUPS = Path("/sys/fs/cgroup")
# The files of the limit and the usage, and the key of reclaimable file cache in memory.stat.
_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


@dataclass(frozen=True)
class Room:
    """The memory that this process may have: ``used`` bytes now, and ``free`` more.

    In a container, ``used`` are also those of the other processes there. ``limit`` says what sets
    the bound. Under a limit on addresses, mapped files count, too.
    """

    free: int
    used: int
    limit: str

    @property
    def allowed(self) -> int:
        """What the process may have altogether, in bytes."""
        return self.used + self.free

    @property
    def counts_mapped_files(self) -> bool:
        """Whether mapped files take room although the system could drop their pages."""
        return self.limit == ADDRESSES


MACHINE, CONTAINER, ADDRESSES = "this machine has", "the container allows", "ulimit -v allows"


def room() -> Room | None:
    """What this process may have, by the narrowest of all bounds; None if unknown."""
    known = [Room(free, limit - free, CONTAINER) for limit, free in _in_cgroups()]
    of_machine, of_addresses = _line("/proc/meminfo", "MemAvailable"), _under_rlimit()
    if of_machine is not None:
        known.append(Room(of_machine, memory_in_use(), MACHINE))
    if of_addresses is not None:
        addresses = _line("/proc/self/status", "VmSize") or 0
        known.append(Room(max(of_addresses, 0), addresses, ADDRESSES))
    return min(known, key=lambda found: found.free, default=None)


def available_memory() -> int | None:
    """Bytes this process can still allocate: free RAM, or less under a limit; None if unknown."""
    found = room()
    return found.free if found is not None else None


@contextmanager
def errors_before_the_limit(droppable: int = 0) -> Iterator[None]:
    """In this context, an allocation beyond a container's limit is an error that can be caught.

    Without it the system kills the process. It costs nothing: the kernel counts what the process
    may write to (``RLIMIT_DATA``), and that may grow by what the container has left, and by
    ``droppable`` bytes in use that the system can take back. No effect without such a limit.
    """
    found, data = room(), _line("/proc/self/status", "VmData")
    if found is None or data is None or found.limit != CONTAINER:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = data + found.free + droppable
    bounds = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([wanted, *bounds]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def save_addresses() -> None:
    """Keep libraries from reserving addresses that they never use, under a limit on them.

    One allocator alone reserves a gigabyte, and each thread's allocations a range. Call before
    the libraries are imported; what the user has set is kept.
    """
    if _under_rlimit() is None:
        return
    import ctypes
    import os

    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    os.environ.setdefault("MIMALLOC_ARENA_RESERVE", "0")  # of pyarrow, too, and of Rust's modules
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def release_freed() -> None:
    """Give memory that was freed back to the system, where the C library can."""
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that an allocation failed.

    torch raises its own class on a GPU and a plain RuntimeError on a CPU; C++ libraries say
    ``bad_alloc``, the system ENOMEM.
    """
    import errno
    import sys

    torch = sys.modules.get("torch")  # what has not been imported has raised nothing
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or (torch is not None and isinstance(error, torch.OutOfMemoryError))
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or ("DefaultCPUAllocator: " in text and "memory" in text)
        or "std::bad_alloc" in text
        or "unable to mmap" in text
        or "Cannot allocate memory" in text
    )


def may_be_out_of_memory(error: BaseException) -> bool:
    """Whether an error can mean it: oneDNN says no more than this when its buffers do not fit.

    It says the same of a product that it cannot compute at all.
    """
    return "could not create a primitive" in str(error)


def gigabytes(size: int) -> str:
    """Bytes as ``1.2 GB`` (10^9 bytes)."""
    return f"{size / 1e9:.1f} GB"


def memory_in_use() -> int:
    """Bytes of RAM this process uses now; 0 if the system does not report it."""
    return _line("/proc/self/status", "VmRSS") or 0


def peak_memory() -> int:
    """The most bytes of RAM this process has used; 0 if the system does not report it."""
    return _line("/proc/self/status", "VmHWM") or 0


def _line(file: str, key: str) -> int | None:
    """The value of ``key: N kB`` in bytes."""
    try:
        for line in Path(file).read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _under_rlimit() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    used = _line("/proc/self/status", "VmSize")
    return None if limit == resource.RLIM_INFINITY or used is None else limit - used


def _in_cgroups() -> list[tuple[int, int]]:
    """Limit, and bytes left, of each control group of this process; cached files count as free."""
    free = []
    for folder, (limit_file, used_file, cache_key) in _cgroup_folders():
        limit, used = _number(folder / limit_file), _number(folder / used_file)
        if limit is not None and used is not None and limit < 2**60:
            free.append((limit, max(limit - used + _stat(folder, cache_key), 0)))
    return free


def _cgroup_folders() -> list[tuple[Path, tuple[str, str, str]]]:
    """This process's memory groups, innermost first, up to the root a container sees."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, files = CGROUPS, _V2
        elif "memory" in controllers.split(","):
            root, files = CGROUPS / "memory", _V1
        else:
            continue
        folder = root / path.lstrip("/")
        found += [(f, files) for f in (folder, *folder.parents) if f.is_relative_to(root)]
    return found


def _number(file: Path) -> int | None:
    """The number in a cgroup's file; None if it is missing or says ``max``."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _stat(folder: Path, key: str) -> int:
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[0] == key), 0)
