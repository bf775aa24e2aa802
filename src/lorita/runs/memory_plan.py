"""How much memory a run will take, reckoned before its weights are loaded.

``plan`` shows it, a run starts or refuses by it, and its forecast repeats it: one reckoning.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lorita.data.examples import token_lengths
from lorita.evaluation.score_batches import is_tight, scoring_bytes
from lorita.models.memory_needs import (
    LATE,
    LOADING,
    Needs,
    Sizes,
    droppable_bytes,
    loading_bytes,
    loss_bytes,
    mapped_while_loading,
    product_bytes,
    weight_bytes,
)
from lorita.system.memory import gigabytes, room
from lorita.training.token_budget import bytes_per_token, most_tokens, token_budget

if TYPE_CHECKING:
    from lorita.runs.prepare import Prepared
    from lorita.settings.schema import RunSettings
    from lorita.training.forecast import Work

STEPS, PROOF = "weights and training steps", "weights and the proof"
STATE = 20
"""Bytes of a trained parameter: itself, its gradient, two averages, and the last good copy."""


@dataclass(frozen=True)
class Micro:
    """How the rows of a step are computed: tokens at once, recomputed activations or not."""

    tokens: int
    checkpointing: bool


def memory_per_token(
    settings: RunSettings, prepared: Prepared, itemsize: int, *, checkpointing: bool
) -> int:
    """Estimated bytes of activations kept per token."""
    return bytes_per_token(
        prepared.config, itemsize, fast=settings.speedup, checkpointing=checkpointing
    )


def micro_batches_for(
    settings: RunSettings, prepared: Prepared, itemsize: int, free: int | None, *,
    can_checkpoint: bool, on_cpu: bool, shared: int = 0, expands: bool = False,
) -> Micro:  # fmt: skip
    """The largest micro-batches that ``free`` bytes hold beside the weights.

    ``shared`` tokens with which many rows begin are in addition to the usual number, if they fit:
    in smaller micro-batches, they are computed more often. ``expands`` as for ``token_budget``.
    """
    too_large = longest_row_too_large(settings, prepared, itemsize, free)
    checkpointing = settings.gradient_checkpointing or (too_large is not None and can_checkpoint)
    per_token = memory_per_token(settings, prepared, itemsize, checkpointing=checkpointing)
    usual = most_tokens(itemsize, on_cpu=on_cpu)
    budget = max(
        token_budget(per_token, free, most, expands=expands) for most in (usual, usual + shared)
    )
    return Micro(settings.micro_batch_tokens or budget, checkpointing)


def longest_row_too_large(
    settings: RunSettings, prepared: Prepared, itemsize: int, free: int | None
) -> str | None:
    """The note for a longest row that does not fit in memory unless activations are recomputed;
    None if it fits. A micro-batch cannot be smaller than a row."""
    longest = max(token_lengths(prepared.data.train))
    needs = longest * memory_per_token(settings, prepared, itemsize, checkpointing=False)
    if free is None or needs <= 0.8 * free:
        return None
    return (
        f"The longest row ({longest:,} tokens) would need about {gigabytes(needs)} of "
        f"activations and {gigabytes(free)} are free: they are recomputed in the backward pass, "
        "as with --gradient-checkpointing"
    )


def training_needs(
    settings: RunSettings, prepared: Prepared, sizes: Sizes, itemsize: int, *,
    trained: int, micro: Micro, tight: bool, idle: int = 0,
) -> Needs:  # fmt: skip
    """What a run takes on top of what the process uses before it loads the weights.

    ``trained`` counts the adapter's parameters, ``idle`` what ``idle_inputs`` found. ``tight``:
    with the small batches for scores that are taken where memory is short.
    """
    base, fast = prepared.base, settings.speedup
    weights = weight_bytes(base, sizes, itemsize) + product_bytes(base, sizes, itemsize)
    beside = weights + STATE * trained + LATE
    copied = droppable_bytes(base, sizes, itemsize, fast=fast)
    per_token = memory_per_token(settings, prepared, itemsize, checkpointing=micro.checkpointing)
    if fast and not micro.checkpointing:
        per_token -= min(idle * itemsize, per_token // 4)  # a quarter of it are such inputs
    return Needs(
        {
            LOADING: loading_bytes(base, sizes, itemsize),
            STEPS: beside + micro.tokens * per_token + loss_bytes(sizes, itemsize),
            PROOF: beside + scoring_bytes(prepared.config, itemsize, tight=tight),
        },
        {
            LOADING: mapped_while_loading(base, sizes, itemsize),
            STEPS: copied,
            PROOF: copied,
        },
    )


def reckoned_peak(
    settings: RunSettings, prepared: Prepared, sizes: Sizes | None, itemsize: int, micro: Micro,
    work: Work, *, trained: int, used: int, idle: int,
) -> int:  # fmt: skip
    """The most memory that a run will use, in bytes; ``used`` are those before the weights.

    ``trained`` and ``idle`` as for ``training_needs``.
    """
    if sizes is None:
        return used
    most = replace(micro, tokens=min(micro.tokens, work.most_at_once))
    here = room()
    tight = here is not None and is_tight(here.free)
    needs = training_needs(
        settings, prepared, sizes, itemsize, trained=trained, micro=most, tight=tight, idle=idle
    )
    return used + needs.peak


def least_needs(settings: RunSettings, prepared: Prepared, sizes: Sizes, itemsize: int) -> Needs:
    """As ``training_needs``, for the smallest pieces that a run can be cut into."""
    longest = max(token_lengths(prepared.data.train))
    micro = Micro(longest, checkpointing=True)
    trained = sizes.per_rank * settings.r
    return training_needs(
        settings, prepared, sizes, itemsize, trained=trained, micro=micro, tight=True
    )


def dropped(settings: RunSettings, prepared: Prepared, sizes: Sizes | None, itemsize: int) -> int:
    """Bytes that the system may take back from the loaded weights once the fast step is set."""
    if sizes is None:
        return 0
    return droppable_bytes(prepared.base, sizes, itemsize, fast=settings.speedup)


def can_checkpoint(model: Any) -> bool:
    """Whether the model can recompute its activations."""
    return bool(model.supports_gradient_checkpointing)
