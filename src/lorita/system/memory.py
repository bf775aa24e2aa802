"""How much memory there is, and how much is taken.

Containers' limits count as much as the host's: the control groups of this process and of all above
it, in both of Linux's layouts, and the limit on its address space (``ulimit -v``).
"""

from __future__ import annotations

from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


_V2 = ("memory.max", "memory.current", "inactive_file")


_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def available_memory() -> int | None:
    """Bytes that this process can still take: free RAM, or less where something sets a limit."""
    known = [
        value
        for value in (_line("/proc/meminfo", "MemAvailable"), _under_rlimit(), *_in_cgroups())
        if value is not None
    ]
    return max(min(known), 0) if known else None


def memory_in_use() -> int:
    """Bytes of RAM that this process has now; 0 where the system does not tell."""
    return _line("/proc/self/status", "VmRSS") or 0


def peak_memory() -> int:
    """The most bytes of RAM that this process has had; 0 where the system does not tell."""
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
    """What each control group above this process leaves; files kept in memory can be given up."""
    free = []
    for folder, (limit_file, used_file, cache_key) in _cgroup_folders():
        limit, used = _number(folder / limit_file), _number(folder / used_file)
        if limit is not None and used is not None and limit < 2**60:
            free.append(limit - used + _stat(folder, cache_key))
    return free


def _cgroup_folders() -> list[tuple[Path, tuple[str, str, str]]]:
    """This process's memory groups, innermost first, and the root that a container sees."""
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
    """A cgroup's file as a number; None where it is absent or says ``max``."""
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
