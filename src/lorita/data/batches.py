"""From rows to steps: the order of rows in an epoch, and the micro-batches of a step.

A step is a number of rows, as users know it. How many of them are computed at once is only a
matter of memory and does not change the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, TypeVar

from lorita.data.examples import IGNORE, Example
from lorita.data.shared_beginnings import Group, find_groups

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


@dataclass(frozen=True)
class MicroBatch:
    """Rows that are computed together in one forward pass.

    ``groups`` says which of them share a beginning, by their place; empty if none do.
    """

    examples: Sequence[Example]
    groups: Sequence[Group] = ()

    @property
    def num_tokens(self) -> int:
        """The tokens of all its rows, without padding."""
        return sum(len(example.input_ids) for example in self.examples)

    @property
    def computed_tokens(self) -> int:
        """The tokens that are computed: each shared beginning once."""
        return self.num_tokens - sum(group.shared * (len(group.rows) - 1) for group in self.groups)

    @property
    def num_targets(self) -> int:
        """The tokens that are predicted, over all its rows."""
        return sum(example.num_targets for example in self.examples)

    def padded(self, pad_id: int, device: torch.device) -> dict[str, torch.Tensor]:
        """``input_ids``, ``attention_mask`` and ``labels``, each [rows, longest], padded right.

        Padding is masked by position, not by id: if pad = eos, the real end stays a target.
        """
        import torch

        width = max(len(example.input_ids) for example in self.examples)
        ids_BL = torch.full((len(self.examples), width), pad_id)
        labels_BL = torch.full_like(ids_BL, IGNORE)
        mask_BL = torch.zeros_like(ids_BL)
        for i, example in enumerate(self.examples):
            length = len(example.input_ids)
            ids_BL[i, :length] = torch.tensor(example.input_ids)
            labels_BL[i, :length] = torch.tensor(example.labels)
            mask_BL[i, :length] = 1
        batch = {"input_ids": ids_BL, "attention_mask": mask_BL, "labels": labels_BL}
        return {name: tensor.to(device) for name, tensor in batch.items()}

    def end_to_end(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        """``input_ids`` and ``labels``, each [tokens], rows laid end to end, and row lengths."""
        import torch

        ids_T = torch.tensor([i for example in self.examples for i in example.input_ids])
        labels_T = torch.tensor([i for example in self.examples for i in example.labels])
        lengths = [len(example.input_ids) for example in self.examples]
        return ids_T.to(device), labels_T.to(device), lengths


def steps_per_epoch(num_rows: int, rows_per_step: int) -> int:
    """Steps needed to see every row once; the last one may have fewer rows."""
    return ceil(num_rows / rows_per_step)


def epoch_order(num_rows: int, *, seed: int, epoch: int) -> list[int]:
    """The shuffled row indices of an epoch; it depends only on its arguments."""
    import torch

    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order: list[int] = torch.randperm(num_rows, generator=generator).tolist()
    return order


def iterate_steps(
    rows: Sequence[T],
    *,
    rows_per_step: int,
    seed: int,
    first_step: int = 0,
    windows: Sequence[Sequence[int]] | None = None,
) -> Iterator[list[T]]:
    """The rows of each step from ``first_step`` on, epoch after epoch, endlessly.

    ``rows`` are examples, or anything else with one item per row, such as the rows' lengths.
    With ``windows`` (``packing.fill_windows``), ``rows_per_step`` counts windows instead of rows.
    """
    units = range(len(rows)) if windows is None else windows
    per_epoch = steps_per_epoch(len(units), rows_per_step)
    step = first_step
    while True:
        epoch, within = divmod(step, per_epoch)
        order = epoch_order(len(units), seed=seed, epoch=epoch)
        for start in range(within * rows_per_step, len(units), rows_per_step):
            chosen = order[start : start + rows_per_step]
            places = chosen if windows is None else [i for unit in chosen for i in windows[unit]]
            yield [rows[i] for i in places]
            step += 1


def micro_batches(
    rows: Sequence[Example],
    token_budget: int,
    *,
    sharing: bool = False,
    cost: Callable[[Sequence[int]], int] = len,
) -> list[MicroBatch]:
    """``rows``, in order, in micro-batches of at most ``token_budget`` tokens each.

    A row longer than the budget is a micro-batch of its own. With ``sharing``, a beginning that
    several rows have in common counts once, and such rows are put together. ``cost`` says for how
    many tokens those of a row count.
    """
    groups = find_groups(rows) if sharing else []
    if any(group.shared for group in groups):
        return _sharing_batches(rows, groups, token_budget)
    lengths = [cost(row.input_ids) for row in rows]
    return [MicroBatch([rows[i] for i in piece]) for piece in partition(lengths, token_budget)]


def _sharing_batches(
    rows: Sequence[Example], groups: Sequence[Group], token_budget: int
) -> list[MicroBatch]:
    """A group is divided only if it is too large for a micro-batch of its own."""
    pieces: list[Group] = []
    for group in groups:
        own = [len(rows[i].input_ids) - group.shared for i in group.rows]
        for part in partition(own, max(token_budget - group.shared, 1)):
            pieces.append(Group(tuple(group.rows[i] for i in part), group.shared))
    sizes = [
        piece.shared + sum(len(rows[i].input_ids) - piece.shared for i in piece.rows)
        for piece in pieces
    ]
    return [_joined(rows, [pieces[i] for i in part]) for part in partition(sizes, token_budget)]


def _joined(rows: Sequence[Example], groups: Sequence[Group]) -> MicroBatch:
    """The rows of some groups as one micro-batch."""
    places = iter(range(len(rows)))
    examples = [rows[i] for group in groups for i in group.rows]
    if not any(len(group.rows) > 1 for group in groups):
        return MicroBatch(examples)
    renumbered = [
        Group(tuple(next(places) for _ in group.rows), group.shared * (len(group.rows) > 1))
        for group in groups
    ]
    return MicroBatch(examples, renumbered)


def partition(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Indices of rows with these lengths, grouped into micro-batches of ``token_budget`` tokens."""
    pieces: list[list[int]] = []
    tokens = 0
    for place, length in enumerate(lengths):
        if not pieces or tokens + length > token_budget:
            pieces.append([])
            tokens = 0
        pieces[-1].append(place)
        tokens += length
    return pieces
