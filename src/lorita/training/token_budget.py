"""How many tokens to compute at once: what their activations take, and what fits into memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig

MOST_TOKENS = 4096
"""Larger micro-batches are no faster: the matrix products are already large enough."""
MOST_TOKENS_ON_CPU, MOST_TOKENS_IN_FLOAT32 = 1024, 704
"""On a CPU. In 16-bit formats, larger micro-batches no longer fit the caches and are slower. In
float32 they would be faster, but take more memory than that is worth."""
LEAST_EXPANDED = 256
"""Expanding a weight from quantised blocks takes as long as some 20 to 40 tokens of its products:
about 5 % of 704 tokens, which twice the memory would halve, and a fifth of 128."""


def bytes_per_token(
    config: PretrainedConfig,
    itemsize: int,
    *,
    fast: bool = False,
    checkpointing: bool = False,
    layers: int | None = None,
) -> int:
    """A generous estimate of the memory that one token's activations take until the backward pass.

    ``itemsize`` is the bytes of one number. The ``fast`` step keeps no logits of the whole
    vocabulary. With gradient ``checkpointing``, only each layer's input is kept, and all
    activations of one layer at a time. ``layers`` are those whose activations exist at a time, by
    default all.
    """
    settings = config.get_text_config().to_dict()
    hidden = _largest(settings, ("hidden_size", "d_model", "n_embd")) or 4096
    inner = _largest(settings, ("intermediate_size", "ffn_dim", "d_ff", "n_inner")) or 4 * hidden
    # Measured: the fast step keeps less of each layer than the model's own forwards do.
    layer = 10 * hidden + 4 * inner if fast else 16 * hidden + 5 * inner
    layers = layers or _largest(settings, ("num_hidden_layers", "n_layer", "n_layers")) or 32
    kept = (layers * hidden + layer if checkpointing else layers * layer) * itemsize
    vocabulary = _largest(settings, ("vocab_size",)) or 0
    logits = 0 if fast else 3 * vocabulary * 4  # the plain loss keeps several copies
    return int(kept + logits)


def _largest(settings: Mapping[str, Any], names: Sequence[str]) -> int | None:
    """The largest number under these names, in the settings or those of a part of the model.

    Families differ: some have one number for each layer, some a config for each part.
    """
    found: list[int] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found.append(_largest(value, names) or 0)
        elif name in names:
            found += value if isinstance(value, list) else [value or 0]
    return max(found, default=0) or None


def most_tokens(itemsize: int, *, on_cpu: bool) -> int:
    """The largest micro-batch that is worthwhile, in tokens, for numbers of ``itemsize`` bytes."""
    if not on_cpu:
        return MOST_TOKENS
    return MOST_TOKENS_ON_CPU if itemsize == 2 else MOST_TOKENS_IN_FLOAT32


def token_budget(
    per_token: int, free_bytes: int | None, most: int = MOST_TOKENS, *, expands: bool = False
) -> int:
    """The most tokens per micro-batch whose activations take at most half of the free memory.

    ``expands``: weights are expanded from quantised blocks in every micro-batch. Before one gets
    smaller than ``LEAST_EXPANDED``, activations may take three quarters.

    ``most`` is halved until it fits, so that small differences in free memory lead to the same
    micro-batches, and therefore to an adapter with the same bytes. ``free_bytes`` None: unknown.
    """
    budget = most
    while free_bytes is not None and budget > 1:
        share = 0.75 if expands and budget // 2 < LEAST_EXPANDED else 0.5
        if budget * per_token <= share * free_bytes:
            break
        budget //= 2
    return budget
