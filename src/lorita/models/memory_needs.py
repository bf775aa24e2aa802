"""How much memory a base model takes, reckoned from its sizes before anything of it is loaded.

The one reckoning behind ``plan``, the start of a run and every command that loads a model. A
command goes through phases, one after another; it fits where its largest phase does. All bytes are
on top of what the process uses already.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorita.errors import ModelError
from lorita.models.base import NATIVE, Base, own_dtype
from lorita.models.empty_model import empty_model
from lorita.models.gguf_files import open_mapped
from lorita.models.gguf_sources import kept_sizes
from lorita.system.memory import CONTAINER, Room, gigabytes, room

LATE = 80_000_000
"""What libraries take when they are first used: products' buffers, threads, compiled kernels."""
PLENTY, BESIDE = 12, 2 * 10**9
"""Weights never take more than so many times their files (4 bits that become float32 and bfloat16),
and that much beside them: where more is free, nothing needs to be reckoned."""
MORE = "Use a smaller model or a narrower --dtype, or allow more memory."
LOADING, ANSWERING = "while its weights are loaded", "its weights and what is computed"
MARGIN = 0.92
"""Of a container's limit; the rest goes to fragments of allocators, page tables and stacks. A run
that had been reckoned to need all of 1.2 GB was killed in its second step."""
PAGED = 1.1
"""By how much a container's limit may be exceeded by pages of files."""
SMALLEST_LOSS_CHUNK = 2**26
"""Logits of a loss are made in chunks of this many bytes, or of ``LOSS_POSITIONS`` if larger."""
LOSS_POSITIONS = 256
EXPANDED = 2**26
"""Of weights that stay quantised: what is ordinary numbers at a time, and a product's copy."""
BYTES_PER_NUMBER = {"q8": 34 / 32, "q4": 24 / 32}
"""With the embeddings of q4, which keep 8 bits."""


@dataclass(frozen=True)
class Sizes:
    """Counts of numbers: of all weights, of the largest one, and of those that the fast step joins.

    ``per_rank`` is what a LoRA of rank 1 on all linear layers has. Of a GGUF file whose weights
    stay quantised, ``blocks`` are the bytes that do, and ``unpacked`` the numbers that cannot.
    """

    numbers: int
    largest: int
    joined: int
    per_rank: int
    vocabulary: int
    blocks: int = 0
    unpacked: int = 0


def sizes_of(model: Any, base: Base | None = None) -> Sizes:
    """The sizes of a model, which may be on the meta device, and of its base's GGUF file."""
    from torch import nn

    parameters = list(model.parameters())
    alike: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    per_rank = 0
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not model.get_output_embeddings():
            alike[name.rpartition(".")[0], module.in_features].append(module.weight.numel())
            per_rank += module.in_features + module.out_features
    path = None if base is None else base.gguf_path
    blocks, unpacked = (0, 0) if path is None else kept_sizes(open_mapped(path), model)
    return Sizes(
        numbers=sum(p.numel() for p in parameters),
        largest=max((p.numel() for p in parameters), default=0),
        joined=sum(sum(group) for group in alike.values() if len(group) > 1),
        per_rank=per_rank,
        vocabulary=int(getattr(model.config.get_text_config(), "vocab_size", 0) or 0),
        blocks=blocks,
        unpacked=unpacked,
    )


def idle_inputs(model: Any) -> int:
    """Numbers per token that linear layers read and no adapter of this model does.

    The gradient of an adapter needs its layer's input until the backward pass; a layer without one
    only passes gradients on. Layers side by side that read equally many count once, as if they read
    the same. Parts of the model without any adapter, such as one for images, do not count.
    """
    adapted = {n.partition(".lora_")[0] for n, _ in model.named_parameters() if ".lora_" in n}
    parts = {_part(name) for name in adapted}
    read = defaultdict[tuple[str, int], bool](bool)
    for name, module in model.named_modules():
        layer = name.removesuffix(".base_layer")
        if ".lora_" not in name and hasattr(module, "in_features") and _part(layer) in parts:
            read[layer.rpartition(".")[0], module.in_features] |= layer in adapted
    return sum(size for (_, size), is_read in read.items() if not is_read)


def _part(name: str) -> str:
    """The list of layers that a module is in: its name up to the first number."""
    return re.split(r"\.\d+\.", name, maxsplit=1)[0]


def base_sizes(base: Base) -> Sizes | None:
    """The sizes of a base, from its configuration; None where its code cannot be run without
    weights."""
    try:
        return sizes_of(empty_model(base), base)
    except ModelError:
        raise
    except Exception:  # an unknown model may fail in any way on the meta device
        return None


@dataclass(frozen=True)
class Needs:
    """The bytes of each phase. ``mapped`` are further ones, of file pages that are not read again.

    The system takes such pages back where memory is short, unless it counts addresses.
    ``pageable``: the weights are pages of a file themselves. Others cannot be read again.
    """

    phases: Mapping[str, int]
    mapped: Mapping[str, int] = field(default_factory=dict)
    pageable: bool = True

    @property
    def peak(self) -> int:
        """The bytes of the largest phase, with all that is mapped."""
        return self._largest(with_mapped=True)[1]

    def least(self, here: Room) -> int:
        """The bytes that the largest phase cannot do without."""
        return self._largest(with_mapped=here.counts_mapped_files)[1]

    def _largest(self, *, with_mapped: bool) -> tuple[str, int]:
        extra = self.mapped if with_mapped else {}
        sums = {name: size + extra.get(name, 0) for name, size in self.phases.items()}
        name = max(sums, key=lambda phase: sums[phase])
        return name, sums[name]

    def fit(self, here: Room | None, *, paged: bool = True) -> bool:
        """Whether all phases have room; True if the room is unknown.

        ``paged``: a container may be exceeded a little. Pages of files, such as those of the
        libraries and weights themselves, are then read again and again, which is slow but works.
        """
        if here is None:
            return True
        return self.total(here, paged=paged) <= here.allowed

    def total(self, here: Room, *, paged: bool = False) -> int:
        """The bytes that ``here`` must allow altogether, with a container's margin."""
        share = MARGIN if here.limit == CONTAINER else 1.0
        if paged and not here.counts_mapped_files:
            share = PAGED if self.pageable else 1.0
        return int((here.used + self.least(here)) / share)

    def require(
        self, what: str, *, hint: str, here: Room | None = None, paged: bool = True
    ) -> None:
        """Raise ``ModelError`` where the largest phase has no room."""
        here = here or room()
        if here is None or self.fit(here, paged=paged):
            return
        phase, _ = self._largest(with_mapped=here.counts_mapped_files)
        needed, allowed = both_sizes(self.total(here), here.allowed)
        raise ModelError(
            f"{what} needs about {needed} of memory ({phase}), and {here.limit} {allowed}",
            hint=hint,
        )


def weight_bytes(base: Base, sizes: Sizes, itemsize: int) -> int:
    """All weights in numbers of ``itemsize`` bytes, or as blocks and what is expanded at a time."""
    if base.precision is None:
        return sizes.numbers * itemsize
    if base.gguf_path is not None and base.precision == NATIVE:
        return sizes.blocks + sizes.unpacked * itemsize + EXPANDED
    return int(sizes.numbers * BYTES_PER_NUMBER[base.precision]) + EXPANDED


def product_bytes(base: Base, sizes: Sizes, itemsize: int) -> int:
    """The copy of a weight that a product makes: the largest is the head's."""
    return sizes.largest * itemsize if base.precision is None else EXPANDED


def loading_bytes(base: Base, sizes: Sizes, itemsize: int) -> int:
    """The peak while the weights are loaded in numbers of ``itemsize`` bytes."""
    weights = weight_bytes(base, sizes, itemsize)
    if base.precision is not None:
        return weights + (0 if base.precision == NATIVE else 8 * sizes.largest)
    if base.gguf_path is not None:  # each tensor is read into place; some are turned afterwards
        return weights + itemsize * sizes.largest
    stored = _stored_itemsize(base)
    if stored == itemsize:  # the file is mapped, not copied
        return weights
    return weights + (stored + itemsize) * sizes.largest


def mapped_while_loading(base: Base, sizes: Sizes, itemsize: int) -> int:
    """The files that are mapped beside it; safetensors and torch both map what stays mapped."""
    if base.gguf_path is not None:
        return 0 if base.precision == NATIVE else base.gguf_path.stat().st_size
    stored = _stored_itemsize(base)
    return sizes.numbers * stored * (1 if stored == itemsize else 2)


def is_mapped(base: Base, itemsize: int) -> bool:
    """Whether the weights in memory are pages of a file, which need no copy."""
    return base.gguf_path is None and _stored_itemsize(base) == itemsize


def _stored_itemsize(base: Base) -> int:
    """Bytes of a number in the files of a folder."""
    return 4 if own_dtype(base) == "float32" else 2


def answering_needs(
    base: Base, sizes: Sizes, itemsize: int, *, beside: int = 0, fast: bool = False
) -> Needs:
    """What loading a base and answering short prompts with it takes.

    ``beside`` are bytes for what else is done with it, ``fast`` whether by the fast step.
    """
    return Needs(
        {
            LOADING: loading_bytes(base, sizes, itemsize),
            ANSWERING: weight_bytes(base, sizes, itemsize) + LATE + beside,
        },
        {
            LOADING: mapped_while_loading(base, sizes, itemsize),
            ANSWERING: droppable_bytes(base, sizes, itemsize, fast=fast),
        },
        pageable=is_mapped(base, itemsize),
    )


def require_memory(base: Base, itemsize: int, *, copies: int = 1) -> None:
    """Raise ``ModelError`` where there is no room for the weights and short answers.

    ``copies`` of the weights exist at a time.
    """
    if (found := sizes_and_room(base)) is None:
        return
    sizes, here = found
    beside = (copies - 1) * weight_bytes(base, sizes, itemsize)
    needs = answering_needs(base, sizes, itemsize, beside=beside)
    if not needs.fit(here):
        needs.require(base.name, hint=MORE, here=here)


def both_sizes(needed: int, allowed: int) -> tuple[str, str]:
    """Both sizes for people, in megabytes where gigabytes would read the same."""
    if (words := (gigabytes(needed), gigabytes(allowed)))[0] != words[1]:
        return words
    return f"{needed / 1e6:,.0f} MB", f"{allowed / 1e6:,.0f} MB"


def sizes_and_room(base: Base) -> tuple[Sizes, Room] | None:
    """The sizes of a base and the room for it; None where nothing needs to be reckoned."""
    here = room()
    if here is None or is_plenty(base, here) or (sizes := base_sizes(base)) is None:
        return None
    # The model's code was imported for its sizes, and counts as used from now on.
    return None if (here := room()) is None else (sizes, here)


def is_plenty(base: Base, here: Room) -> bool:
    """Whether so much is free that the weights fit whatever is done; seen from the files' sizes."""
    if base.gguf_path is not None:
        files = [base.gguf_path]
    elif base.is_hub:
        return False
    else:
        folder = Path(base.location)
        files = [*folder.glob("*.safetensors"), *folder.glob("*.bin")]
    stored = sum(file.stat().st_size for file in files)
    return here.free >= PLENTY * stored + BESIDE


def droppable_bytes(base: Base, sizes: Sizes, itemsize: int, *, fast: bool) -> int:
    """The pages of weights that the fast step has copied."""
    copied = fast and base.precision is None and is_mapped(base, itemsize)
    return sizes.joined * itemsize if copied else 0


def loss_bytes(sizes: Sizes, itemsize: int) -> int:
    """The logits that a training step has in memory at a time; their gradient overwrites them."""
    return max(SMALLEST_LOSS_CHUNK, LOSS_POSITIONS * sizes.vocabulary * itemsize)
