"""From the targets that a user names to a PEFT configuration that adapts exactly what was meant.

``all-linear`` is resolved here, not by PEFT: layers that a text never reaches, routers and what
PEFT cannot adapt are left out, and that is said. A target that holds nothing else is refused.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from lorita.errors import AdapterError
from lorita.models.experts import (
    adapt_experts,
    expert_targets,
    frozen_experts,
    named_experts,
    with_experts,
)
from lorita.models.language_part import language_part_note, left_out_names
from lorita.models.patterns import require_quick
from lorita.models.reach import text_reach
from lorita.models.targets import (
    NOT_TENSOR,
    UNREACHED,
    branches,
    check_layers,
    check_patterns,
    check_targets,
    ends_with,
    find_layers,
    left_out_notes,
    refused_by_peft,
    short_name,
    unreachable,
)

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel


def choose_targets(
    model: PreTrainedModel, options: Mapping[str, Any]
) -> tuple[LoraConfig, tuple[str, ...]]:
    """PEFT's configuration with ``options`` for ``model``, and lines on what it leaves out and why.

    Raises ``AdapterError`` for targets that the model does not have or that would learn nothing,
    and for values that PEFT rejects.
    """
    named = named_experts(model, options)
    if named and (
        known := expert_targets(model, _config({**options, "layers_to_transform": None}))
    ):
        named = {target: names for target, names in named.items() if target not in known.former}
    if not named:
        return _choose_modules(model, options)
    rest = [target for target in options["target_modules"] if target not in named]
    notes: tuple[str, ...] = ()
    if rest:
        config, notes = _choose_modules(model, {**options, "target_modules": rest})
    else:
        config = _config({**options, "target_modules": []})
    config, line = with_experts(model, config, named)
    return config, (*notes, line)


def _choose_modules(
    model: PreTrainedModel, options: Mapping[str, Any]
) -> tuple[LoraConfig, tuple[str, ...]]:
    targets = options["target_modules"]
    require_quick("", options, [name for name, _ in model.named_modules()])
    config = _config({**options, "layers_to_transform": None})
    experts = expert_targets(model, config)
    check_targets(model, options, experts.former if experts else ())
    _require_reached_whole(model, options.get("modules_to_save") or [])
    if targets == "all-linear":
        layers = find_layers(model)
        short = sorted({short_name(name) for name in layers.usable})
        anywhere = {"target_modules": short, "layers_to_transform": None}
        check_layers(options, _matched(_config({**options, **anywhere}), layers.usable))
        meant = _matched(_config({**options, "target_modules": short}), layers.usable)
        left_out = {n: r for n, r in layers.left_out.items() if not _is_excluded(config, n)}
        notes = left_out_notes(left_out, meant)
        nothing_to_add = not (
            layers.left_out or options.get("layers_to_transform") or left_out_names(model)
        )
        names = targets if nothing_to_add else sorted({short_name(name) for name in meant})
        idle = _idle_exclusion({**options, "target_modules": short}, layers.usable)
    else:
        everything = [name for name, _ in model.named_modules() if name]
        check_layers(options, _matched(config, everything) if experts is None else everything)
        matched = _matched(_config(options), everything)
        left_out = _useless(model, matched)
        meant = [name for name in matched if name not in left_out]
        _require_useful(targets, matched, left_out)
        notes, names = left_out_notes(left_out, meant), targets
        idle = _idle_exclusion(options, everything)
    check_patterns(options, [*meant, *(n for n, _ in model.named_parameters() if experts)])
    exact = _exactly(model, {**options, "target_modules": names}, meant)
    if experts is not None:
        explicit = targets != "all-linear"
        exact, more = adapt_experts(model, exact, experts, meant, explicit=explicit)
        notes += more
    elif targets == "all-linear" or _beside_experts(model, meant):
        notes += frozen_experts(model, exact)
    return exact, (*language_part_note(model), *notes, *idle)


def _beside_experts(model: PreTrainedModel, meant: Collection[str]) -> bool:
    """Whether some of these modules are in a block with experts, as shared experts are."""
    stacked = [name for name, parameter in model.named_parameters() if parameter.ndim == 3]
    blocks = {name.rpartition(".experts.")[0] for name in stacked if ".experts." in name}
    return any(name.startswith(f"{block}.") for block in blocks for name in meant)


def _idle_exclusion(options: Mapping[str, Any], names: Collection[str]) -> tuple[str, ...]:
    """A line if ``exclude_modules`` leaves out nothing that would have been a target."""
    if not options.get("exclude_modules"):
        return ()
    without = _matched(_config({**options, "exclude_modules": None}), names)
    if len(without) > len(_matched(_config(options), names)):
        return ()
    return ("exclude_modules does nothing: none of these modules is a target",)


def _config(options: Mapping[str, Any]) -> LoraConfig:
    from peft import LoraConfig

    given = {name: value for name, value in options.items() if value is not None}
    if isinstance(given["target_modules"], str) and given["target_modules"] == "all-linear":
        given.pop("layers_to_transform", None)  # with layers, PEFT needs names
    try:
        return LoraConfig(task_type="CAUSAL_LM", **given)
    except (TypeError, ValueError) as error:
        raise AdapterError(f"PEFT rejects these LoRA options: {error}") from error


def _matched(config: LoraConfig, names: Iterable[str]) -> list[str]:
    """The modules that PEFT takes for targets."""
    from peft.tuners.tuners_utils import check_target_module_exists

    return [name for name in names if check_target_module_exists(config, name)]


def _is_excluded(config: LoraConfig, name: str) -> bool:
    """Whether the user leaves a module out, by ``exclude_modules`` or by training all of it."""
    asking = copy.copy(config)
    asking.target_modules = {name}
    return not _matched(asking, [name])


def _exactly(model: PreTrainedModel, options: dict[str, Any], meant: Collection[str]) -> LoraConfig:
    """The configuration whose targets are the modules ``meant``, in as few words as possible."""
    if options["target_modules"] == "all-linear":
        return _config(options)
    # An adapter is used on the whole checkpoint, too: its towers have layers of the same names.
    everything = [name for name, _ in model.named_modules() if name] + left_out_names(model)
    config = _config(options)
    if surplus := set(_matched(config, everything)) - set(meant):
        ours = rf"({'|'.join(map(re.escape, branches(sorted(surplus), meant)))})(\..*)?"
        theirs = _as_regex(options.get("exclude_modules"))
        pattern = f"{theirs}|{ours}" if theirs else ours
        config = _config({**options, "exclude_modules": pattern})
        if set(_matched(config, everything)) != set(meant):
            config = _config({**options, "target_modules": sorted(meant)})
    return config


def _as_regex(excluded: list[str] | str | None) -> str | None:
    if not excluded or isinstance(excluded, str):
        return f"({excluded})" if excluded else None
    return rf"(.*\.)?({'|'.join(map(re.escape, excluded))})"


def _useless(model: PreTrainedModel, names: Collection[str]) -> dict[str, str]:
    """The modules on which LoRA would learn nothing, with the reason."""
    import torch

    reach = text_reach(model, names)
    found = {name: unreachable(name, reach) for name in names}
    for name, reason in found.items():
        if reason == NOT_TENSOR and not isinstance(model.get_submodule(name), torch.nn.Linear):
            found[name] = None  # a block or a router of its own kind: left to PEFT
        if refused_by_peft(model, name):
            raise AdapterError(
                f"target_modules: PEFT cannot adapt {name} in a model of type "
                f"{model.config.model_type}, which reads its weights without calling it",
                hint="Leave it out; all-linear does.",
            )
    return {name: reason for name, reason in found.items() if reason is not None}


def _require_useful(
    targets: list[str] | str, matched: Collection[str], left_out: Mapping[str, str]
) -> None:
    """Raise ``AdapterError`` for targets of which nothing is left."""
    groups = (
        {targets: list(matched)}
        if isinstance(targets, str)
        else {t: [name for name in matched if ends_with(name, t)] for t in targets}
    )
    problems = [
        f"target_modules: {target!r} would learn nothing: "
        f"{names[0]} is a layer {left_out[names[0]]}"
        for target, names in groups.items()
        if names and all(name in left_out for name in names)
    ]
    if problems:
        raise AdapterError(problems, hint="Leave it out, or use all-linear. See `lorita targets`.")


def _require_reached_whole(model: PreTrainedModel, names: Collection[str]) -> None:
    """Raise ``AdapterError`` for a module to train in full that text does not reach."""
    modules = {
        name: target
        for name, _ in model.named_modules()
        for target in names
        if name and ends_with(name, target)
    }
    reach = text_reach(model, modules) if modules else None
    problems = []
    for target in sorted(set(modules.values())):
        own = [name for name, wanted in modules.items() if wanted == target]
        if all(unreachable(name, reach) == UNREACHED for name in own):
            problems.append(f"modules_to_save: text does not reach {own[0]}: it would not change")
    if problems:
        raise AdapterError(problems, hint="Leave it out: only layers that text reaches can learn.")
