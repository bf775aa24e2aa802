"""How much memory there is, how much is taken, and how many tokens of activations fit.

Containers' limits count as much as the host's: the control groups of this process and of all above
it, in both of Linux's layouts, and the limit on its address space (``ulimit -v``).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig

MOST_TOKENS = 4096
"""Beyond this a larger micro-batch is no faster: the products are large enough."""
MOST_TOKENS_ON_CPU, MOST_TOKENS_IN_FLOAT32 = 1024, 704
"""On a CPU. A larger micro-batch of 16-bit numbers leaves the caches and is slower; one of float32
would be faster, and takes more memory than it is worth."""
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


def bytes_per_token(
    config: PretrainedConfig, itemsize: int, *, fast: bool = False, checkpointing: bool = False
) -> int:
    """A generous estimate of the activations that one token keeps for the backward pass.

    The fast step keeps no logits of the whole vocabulary; with checkpointing only what goes from
    layer to layer is kept, and all of one layer at a time.
    """
    text: Any = config.get_text_config()
    hidden = text.hidden_size
    inner = getattr(text, "intermediate_size", None) or 4 * hidden
    layer = 16 * hidden + 5 * inner
    layers = text.num_hidden_layers
    kept = (layers * hidden + layer if checkpointing else layers * layer) * itemsize
    logits = 0 if fast else 3 * text.vocab_size * 4  # the plain loss holds them several times over
    return int(kept + logits)


def most_tokens(itemsize: int, *, on_cpu: bool) -> int:
    """The largest micro-batch worth having, in tokens."""
    if not on_cpu:
        return MOST_TOKENS
    return MOST_TOKENS_ON_CPU if itemsize == 2 else MOST_TOKENS_IN_FLOAT32


def token_budget(per_token: int, free_bytes: int | None, most: int = MOST_TOKENS) -> int:
    """Tokens per micro-batch whose activations take at most half of the free memory.

    ``most`` halved some times, so that a little more or less of free memory gives the same pieces,
    and the same bytes in the end.
    """
    budget = most
    while free_bytes is not None and budget > 1 and budget * per_token > free_bytes // 2:
        budget //= 2
    return budget
