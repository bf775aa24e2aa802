"""How much memory there is, and how many tokens of activations fit into it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig

MOST_TOKENS = 4096
"""Beyond this a larger micro-batch is no faster: the products are large enough."""


def available_memory() -> int | None:
    """Bytes that this process can still take: free RAM, or less where a container sets a limit."""
    free = _meminfo("MemAvailable")
    limits = [
        limit - used
        for limit_file, used_file in (
            ("memory.max", "memory.current"),
            ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
        )
        if (limit := _number(limit_file)) is not None and (used := _number(used_file)) is not None
    ]
    known = [value for value in (free, *limits) if value is not None]
    return max(min(known), 0) if known else None


def _meminfo(key: str) -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _number(name: str) -> int | None:
    """A cgroup's file as a number; None where it is absent or says ``max``."""
    try:
        text = (Path("/sys/fs/cgroup") / name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def bytes_per_token(config: PretrainedConfig, itemsize: int) -> int:
    """A generous estimate of the activations that one token keeps for the backward pass."""
    text: Any = config.get_text_config()
    hidden = text.hidden_size
    inner = getattr(text, "intermediate_size", None) or 4 * hidden
    kept = text.num_hidden_layers * (16 * hidden + 5 * inner) * itemsize
    logits = 3 * text.vocab_size * 4  # the plain loss holds the logits several times over
    return int(kept + logits)


def token_budget(config: PretrainedConfig, itemsize: int, free_bytes: int | None) -> int:
    """Tokens per micro-batch that take at most half of the free memory."""
    if free_bytes is None:
        return MOST_TOKENS
    fits = free_bytes // 2 // bytes_per_token(config, itemsize)
    return int(max(1, min(MOST_TOKENS, fits)))
