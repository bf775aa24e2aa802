"""How many tokens to compute at once: what their activations take, and what fits into memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig

MOST_TOKENS = 4096
"""Larger micro-batches are no faster: the matrix products are already large enough."""
MOST_TOKENS_ON_CPU, MOST_TOKENS_IN_FLOAT32 = 1024, 704
"""On a CPU. In 16-bit formats, larger micro-batches no longer fit the caches and are slower. In
float32 they would be faster, but take more memory than that is worth."""


def bytes_per_token(
    config: PretrainedConfig, itemsize: int, *, fast: bool = False, checkpointing: bool = False
) -> int:
    """A generous estimate of the memory that one token's activations take until the backward pass.

    ``itemsize`` is the bytes of one number. The ``fast`` step keeps no logits of the whole
    vocabulary. With gradient ``checkpointing``, only each layer's input is kept, and all
    activations of one layer at a time.
    """
    text: Any = config.get_text_config()
    hidden = text.hidden_size
    inner = getattr(text, "intermediate_size", None) or 4 * hidden
    layer = 16 * hidden + 5 * inner
    layers = text.num_hidden_layers
    kept = (layers * hidden + layer if checkpointing else layers * layer) * itemsize
    logits = 0 if fast else 3 * text.vocab_size * 4  # the plain loss keeps several copies
    return int(kept + logits)


def most_tokens(itemsize: int, *, on_cpu: bool) -> int:
    """The largest micro-batch that is worthwhile, in tokens, for numbers of ``itemsize`` bytes."""
    if not on_cpu:
        return MOST_TOKENS
    return MOST_TOKENS_ON_CPU if itemsize == 2 else MOST_TOKENS_IN_FLOAT32


def token_budget(per_token: int, free_bytes: int | None, most: int = MOST_TOKENS) -> int:
    """The most tokens per micro-batch whose activations take at most half of the free memory.

    ``most`` is halved until it fits, so that small differences in free memory lead to the same
    micro-batches, and therefore to an adapter with the same bytes. ``free_bytes`` None: unknown.
    """
    budget = most
    while free_bytes is not None and budget > 1 and budget * per_token > free_bytes // 2:
        budget //= 2
    return budget
