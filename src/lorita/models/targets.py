"""The modules of a model that LoRA can target, and the check of the targets a user names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorita.errors import AdapterError
from lorita.models.reach import Reach, text_reach
from lorita.system.counted import counted

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

UNREACHED = "not reached by text in training"
NOT_TENSOR = "whose output is not that of a linear layer"
ROUTER = "routing between experts"
REFUSED = "that PEFT does not adapt in this kind of model"


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


@dataclass(frozen=True)
class Layers:
    """The linear layers of a model without its output head, by full name.

    ``usable`` have their (inputs, outputs) and are what ``all-linear`` adapts. ``left_out`` have
    the reason why not, one of the constants above.
    """

    usable: dict[str, tuple[int, int]]
    left_out: dict[str, str]
    reach: Reach | None

    def notes(self) -> list[str]:
        """What is left out and why, in one line; none if nothing is."""
        return left_out_notes(self.left_out, self.usable)


def left_out_notes(left_out: dict[str, str], kept: Collection[str]) -> list[str]:
    """The line on layers that are not adapted; ``kept`` are those that are."""
    parts = []
    for reason in dict.fromkeys(left_out.values()):
        names = [name for name, why in left_out.items() if why == reason]
        places = branches(names, kept) if reason == UNREACHED else names
        parts.append(f"{counted(len(names), 'layer')} {reason} ({in_short(places)})")
    return [f"Not adapted: {'; '.join(parts)}"] if parts else []


def in_short(names: Iterable[str]) -> str:
    """Some names for a message: those of all layers as one, and no more than a few."""
    places = list(dict.fromkeys(re.sub(r"\.\d+(?=\.|$)", ".*", name) for name in names))
    return ", ".join(places[:4]) + (", …" if len(places) > 4 else "")


def branches(names: Collection[str], kept: Collection[str]) -> list[str]:
    """The shortest prefixes of module names that cover ``names`` and none of ``kept``."""
    taken = {".".join(name.split(".")[:n]) for name in kept for n in range(name.count(".") + 2)}
    found: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        prefixes = (".".join(parts[:n]) for n in range(1, len(parts) + 1))
        found[next((prefix for prefix in prefixes if prefix not in taken), name)] = None
    return list(found)


def find_layers(model: PreTrainedModel) -> Layers:
    """The linear layers of ``model``, each with what LoRA can do with it.

    The model is asked which of them a text reaches (see ``text_reach``).
    """
    linear = dict(_linear_layers(model))
    reach = text_reach(model, linear)
    left_out = {
        name: reason
        for name, (_, outputs) in linear.items()
        if (reason := _obstacle(model, name, outputs, reach)) is not None
    }
    usable = {name: shape for name, shape in linear.items() if name not in left_out}
    return Layers(usable, left_out, reach)


def _obstacle(model: PreTrainedModel, name: str, outputs: int, reach: Reach | None) -> str | None:
    if refused_by_peft(model, name):
        return REFUSED
    if _is_router(model.config, name, outputs):
        return ROUTER
    return unreachable(name, reach)


def unreachable(name: str, reach: Reach | None) -> str | None:
    """Why a LoRA on module ``name`` would learn nothing; None if it would."""
    if reach is None or name in reach.modules:
        return None
    if name in reach.not_linear:
        return NOT_TENSOR
    # A few tokens are not sent to all experts: one that was stands for the others.
    group = _as_group(name)
    return None if any(_as_group(other) == group for other in reach.modules) else UNREACHED


def _as_group(name: str) -> str:
    return re.sub(r"(experts?)\.\d+\.", r"\1.*.", name)


def refused_by_peft(model: PreTrainedModel, name: str) -> bool:
    """Whether PEFT refuses this module: in Mamba models some are read past their adapter."""
    from peft import LoraConfig
    from peft.tuners.tuners_utils import _check_lora_target_modules_mamba

    try:
        _check_lora_target_modules_mamba(LoraConfig(), model, name.rpartition(".")[2])
    except ValueError:
        return True
    return False


def _is_router(config: Any, name: str, outputs: int) -> bool:
    """Whether a layer weighs experts: its name says so, and it has an output for each of them."""
    counts = {1, *numbers_of_experts(config.to_dict())}
    named = re.search(r"(^|[._])(router|gate|gating)(\.\w+)?$", name)
    return bool(named) and len(counts) > 1 and outputs in counts


def numbers_of_experts(values: dict[str, Any]) -> Iterator[int]:
    """The numbers of experts in a model's configuration, several per token included."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from numbers_of_experts(value)
        elif "experts" in str(key) and isinstance(value, int) and value > 1:
            yield value


def list_targets(layers: Layers) -> list[Target]:
    """The usable layers of ``find_layers`` by short name; costliest first."""
    groups: dict[str, list[tuple[int, int]]] = {}
    for name, shape in layers.usable.items():
        groups.setdefault(short_name(name), []).append(shape)
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


def short_name(name: str) -> str:
    """The last part of a module's name; with what stands before it where that is a number."""
    match = re.search(r"[^.]*[^.\d][^.]*(\.\d+)*$", name)
    return match.group() if match else name


def _linear_layers(model: torch.nn.Module) -> Iterator[tuple[str, tuple[int, int]]]:
    """Every linear layer except the output head: full name, (inputs, outputs)."""
    import torch
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    for name, module in model.named_modules():
        if module is head:
            continue
        if isinstance(module, torch.nn.Linear):
            yield name, (module.in_features, module.out_features)
        elif isinstance(module, Conv1D):
            yield name, (module.nx, module.nf)


def check_targets(
    model: PreTrainedModel, options: Mapping[str, Any], former: Collection[str] = ()
) -> None:
    """Raise ``AdapterError`` naming every target that matches nothing, and what is available.

    ``options`` are those of LoRA. PEFT accepts a list if any of its names matches; here each one
    must. ``former`` are names of layers that are parameters now, which PEFT still accepts.
    """
    names = [name for name, _ in model.named_modules() if name]
    linear = {short_name(name) for name, _ in _linear_layers(model)}
    hint = f"This model has: {', '.join(sorted(linear))} (or all-linear). See `lorita targets`."
    problems = []
    for label in ("target_modules", "exclude_modules", "modules_to_save"):
        given = options.get(label) or []
        if isinstance(given, str):
            problems += [] if given == "all-linear" else _regex_problems(label, given, names)
            continue
        known = {short_name(name) for name in names} if label == "modules_to_save" else linear
        for target in given:
            if not any(ends_with(name, target) for name in (*names, *former)):
                near = difflib.get_close_matches(target, sorted(known), n=1)
                guess = f" (did you mean {near[0]}?)" if near else ""
                problems.append(f"{label}: no module is called {target!r}{guess}")
    if problems:
        raise AdapterError(problems, hint=hint)


def _regex_problems(label: str, pattern: str, names: Collection[str]) -> list[str]:
    try:
        matched = any(re.fullmatch(pattern, name) for name in names)
    except re.error as error:
        return [f"{label} {pattern!r} is not a valid regex: {error}"]
    return [] if matched else [f"{label} {pattern!r} matches no module"]


def check_layers(options: Mapping[str, Any], names: Iterable[str]) -> None:
    """``AdapterError`` for layers to adapt that the model does not have.

    ``names`` are the modules that would be adapted in all layers.
    """
    wanted = options.get("layers_to_transform")
    if wanted is None:
        return
    found = (re.match(r".*\.[^.]*\.(\d+)\.", name) for name in names)  # as PEFT counts them
    there = sorted({int(match.group(1)) for match in found if match})
    absent = [layer for layer in ([wanted] if isinstance(wanted, int) else wanted)
              if layer not in there]  # fmt: skip
    if absent:
        what = f"layers {there[0]} to {there[-1]}" if there else "no numbered layers"
        raise AdapterError(
            f"layers_to_transform: there is no layer {', '.join(map(str, absent))}",
            hint=f"Among the modules to adapt there are {what}.",
        )


def check_patterns(options: Mapping[str, Any], adapted: Sequence[str]) -> None:
    """``AdapterError`` for ranks and alphas of modules that are not ``adapted``."""
    problems = []
    for label in ("rank_pattern", "alpha_pattern"):
        for pattern in options.get(label) or {}:
            try:
                hit = any(re.match(rf"(.*\.)?({pattern})$", name) for name in adapted)
            except re.error as error:
                problems.append(f"{label} {pattern!r} is not a valid regex: {error}")
                continue
            if not hit:
                problems.append(f"{label}: no adapted module is called {pattern!r}")
    if problems:
        there = sorted({short_name(name) for name in adapted})
        raise AdapterError(problems, hint=f"Adapted are: {', '.join(there[:20])}.")


def ends_with(name: str, target: str) -> bool:
    """Whether module ``name`` is meant by ``target``, as PEFT compares them."""
    return name == target or name.endswith(f".{target}")
