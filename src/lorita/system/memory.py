"""How much memory is available and how much is in use.

Limits of containers count as well as those of the host: the control groups of this process and all
above it, in both Linux layouts (v1 and v2), and the limit on its address space (``ulimit -v``).
"""

from __future__ import annotations

from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
# The files of the limit and the usage, and the key of reclaimable file cache in memory.stat.
_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def available_memory() -> int | None:
    """Bytes this process can still allocate: free RAM, or less under a limit; None if unknown."""
    known = [
        value
        for value in (_line("/proc/meminfo", "MemAvailable"), _under_rlimit(), *_in_cgroups())
        if value is not None
    ]
    return max(min(known), 0) if known else None


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


def _in_cgroups() -> list[int]:
    """Bytes left in each control group of this process; cached files count as free."""
    free = []
    for folder, (limit_file, used_file, cache_key) in _cgroup_folders():
        limit, used = _number(folder / limit_file), _number(folder / used_file)
        if limit is not None and used is not None and limit < 2**60:
            free.append(limit - used + _stat(folder, cache_key))
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
