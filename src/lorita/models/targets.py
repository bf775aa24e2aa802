"""The modules of a model that LoRA can target, and the check of the targets a user names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorita.errors import AdapterError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Target:
    """A kind of linear layer: its name, how many there are and their shapes.

    ``cost_per_rank`` is the number of trainable parameters that one unit of ``r`` adds over all
    layers of this name: the sum of inputs + outputs.
    """

    name: str
    count: int
    shapes: tuple[tuple[int, int], ...]
    """(inputs, outputs), without repetition."""
    cost_per_rank: int


def list_targets(model: PreTrainedModel) -> list[Target]:
    """The linear layers of ``model`` by last name, without the output head; costliest first."""
    groups: dict[str, list[tuple[int, int]]] = {}
    for name, shape in _linear_layers(model).items():
        groups.setdefault(name.rpartition(".")[2], []).append(shape)
    targets = [
        Target(
            name=name,
            count=len(shapes),
            shapes=tuple(dict.fromkeys(shapes)),
            cost_per_rank=sum(inputs + outputs for inputs, outputs in shapes),
        )
        for name, shapes in groups.items()
    ]
    return sorted(targets, key=lambda target: -target.cost_per_rank)


def _linear_layers(model: torch.nn.Module) -> dict[str, tuple[int, int]]:
    """(inputs, outputs) of every linear layer except the output head, by full name."""
    import torch
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    layers = {}
    for name, module in model.named_modules():
        if module is head:
            continue
        if isinstance(module, torch.nn.Linear):
            layers[name] = (module.in_features, module.out_features)
        elif isinstance(module, Conv1D):
            layers[name] = (module.nx, module.nf)
    return layers


def linear_names(model: torch.nn.Module) -> list[str]:
    """The last names of the linear layers covered by ``all-linear``."""
    return sorted({name.rpartition(".")[2] for name in _linear_layers(model)})


def check_targets(
    model: PreTrainedModel, targets: Sequence[str] | str, excluded: Sequence[str] | str | None
) -> None:
    """Raise ``AdapterError`` naming every target that matches nothing, and what is available.

    PEFT accepts a list if any of its names matches; here each one must.
    """
    import re

    names = [name for name, _ in model.named_modules() if name]
    available = linear_names(model)
    hint = f"This model has: {', '.join(available)} (or all-linear). See `lorita targets`."
    if isinstance(targets, str) and targets != "all-linear":
        try:
            matched = any(re.fullmatch(targets, name) for name in names)
        except re.error as error:
            raise AdapterError(
                f"target_modules {targets!r} is not a valid regex: {error}"
            ) from None
        if not matched:
            raise AdapterError(f"target_modules {targets!r} matches no module", hint=hint)
    problems = []
    for label, given in (("target_modules", targets), ("exclude_modules", excluded or [])):
        for target in [] if isinstance(given, str) else given:
            if not any(_ends_with(name, target) for name in names):
                near = difflib.get_close_matches(target, available, n=1)
                guess = f" (did you mean {near[0]}?)" if near else ""
                problems.append(f"{label}: no module is called {target!r}{guess}")
    if problems:
        raise AdapterError(problems, hint=hint)


def _ends_with(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")
