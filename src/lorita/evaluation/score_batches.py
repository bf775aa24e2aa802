"""How much is scored at a time, and the memory that it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorita.training.token_budget import bytes_per_token

if TYPE_CHECKING:
    from transformers import PretrainedConfig

TOKENS = 1024
"""Tokens of a batch: enough to keep the products fast, less memory than a training step takes."""
LOGITS = 2**24
"""Numbers of a chunk of logits, 64 MB in float32."""
LITTLE = 10**9
"""Where fewer bytes are free, batches and chunks are ``SMALLER`` times as small."""
SMALLER = 8
COPIES = 6
"""Chunks of logits that exist at a time while two models are compared."""


def is_tight(free: int | None) -> bool:
    """Whether so few bytes are free that rows are scored in small batches."""
    return free is not None and free < LITTLE


def scoring_bytes(config: PretrainedConfig, itemsize: int, *, tight: bool) -> int:
    """What scoring takes beside the weights: the numbers of a batch, and some chunks of logits."""
    share = SMALLER if tight else 1
    layer = bytes_per_token(config, itemsize, fast=True, layers=1)
    return (TOKENS * layer + COPIES * 4 * LOGITS) // share
