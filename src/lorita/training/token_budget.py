"""How much memory there is, how much is taken, and how many tokens of activations fit.

Containers' limits count as much as the host's: the control groups of this process and of all above
it, in both of Linux's layouts, and the limit on its address space (``ulimit -v``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig

MOST_TOKENS = 4096
"""Beyond this a larger micro-batch is no faster: the products are large enough."""
MOST_TOKENS_ON_CPU, MOST_TOKENS_IN_FLOAT32 = 1024, 704
"""On a CPU. A larger micro-batch of 16-bit numbers leaves the caches and is slower; one of float32
would be faster, and takes more memory than it is worth."""


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
