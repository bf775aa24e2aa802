"""LoRA on experts that transformers keeps as one parameter each, as PEFT adapts them.

PEFT knows the names that such layers had before (gate_proj, w1) for some kinds of models and turns
them into ``target_parameters``. Its conversion goes by the last part of a name, so it takes shared
experts and dense layers of the same name along; those are added back here as parameters.
In every kind of model, experts may also be named by the parameter: ``experts.gate_up_proj``.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorita.errors import AdapterError
from lorita.models.targets import ends_with, in_short, numbers_of_experts
from lorita.system.counted import counted

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class ExpertTargets:
    """What PEFT makes of a configuration's targets in a model with fused experts.

    ``parameters`` are the parameters it would adapt, ``former`` the names that lead to them.
    """

    parameters: frozenset[str]
    former: frozenset[str]
    ranks: dict[str, int]
    alphas: dict[str, Any]


def expert_targets(model: PreTrainedModel, config: LoraConfig) -> ExpertTargets | None:
    """PEFT's conversion of the targets of ``config``; None where it converts nothing.

    Raises ``AdapterError`` if the targets name only one of two parts that are fused.
    """
    converted = _converted(model, config)
    if not converted.target_parameters:
        return None
    given = config.target_modules
    names = {given} if isinstance(given, str) else set(given or [])
    return ExpertTargets(
        frozenset(converted.target_parameters),
        frozenset(names - set(converted.target_modules or [])),
        dict(converted.rank_pattern or {}),
        dict(converted.alpha_pattern or {}),
    )


def adapt_experts(
    model: PreTrainedModel,
    config: LoraConfig,
    experts: ExpertTargets,
    meant: Collection[str],
    *,
    explicit: bool,
) -> tuple[LoraConfig, list[str]]:
    """``config`` with the experts as parameters and every module of ``meant``; and notes on it.

    Routers are adapted only where targets are ``explicit``.
    """
    from peft.tuners.tuners_utils import check_target_module_exists

    listed = copy.deepcopy(config)
    if config.target_modules == "all-linear":
        listed.target_modules = {name.rpartition(".")[2] for name in meant}
    modules = _converted(model, listed)
    prevented = _obstacle(config)
    lost = [name for name in meant if not check_target_module_exists(modules, name)]
    result = modules
    result.exclude_modules = config.exclude_modules
    places = dict.fromkeys(_places(model, experts.parameters, config.layers_to_transform))
    routers = [place for place in places if model.get_parameter(place).ndim < 3]
    if prevented is not None:
        result.target_parameters, result.rank_pattern = None, config.rank_pattern
        result.alpha_pattern = config.alpha_pattern
        names = in_short([*places, *(f"{name}.weight" for name in lost)])
        return result, [f"Not adapted, because PEFT cannot do it {prevented}: {names}"]
    notes = []
    if routers and not explicit:
        places = {place: None for place in places if place not in routers}
        notes.append(f"Not adapted: {counted(len(routers), 'router')} ({in_short(routers)})")
    result.rank_pattern = {**experts.ranks}
    result.alpha_pattern = {**experts.alphas}
    wanted = [*places, *(f"{name}.weight" for name in lost)]
    result.target_parameters = _few_names(model, wanted)
    if places:
        notes.append(f"Experts are adapted as parameters: {in_short(places)}")
    return result, notes


def frozen_experts(model: PreTrainedModel, config: LoraConfig) -> list[str]:
    """The line on fused experts that ``config`` does not adapt; none if there are none."""
    counts = set(numbers_of_experts(model.config.to_dict()))
    adapted = config.target_parameters or []
    fused = {
        name: parameter.numel()
        for name, parameter in model.named_parameters()
        if parameter.ndim == 3
        and parameter.shape[0] in counts
        and not any(ends_with(name, target) for target in adapted)
    }
    if not fused:
        return []
    share = sum(fused.values()) / sum(parameter.numel() for parameter in model.parameters())
    names = sorted({".".join(name.split(".")[-2:]) for name in fused})
    return [
        f"Not adapted: the experts, {share:.0%} of the weights, which are not linear layers "
        f"({in_short(fused)}); to adapt them as well, name them in --target-modules: "
        f"{','.join(names)}"
    ]


def named_experts(model: PreTrainedModel, options: Mapping[str, Any]) -> dict[str, list[str]]:
    """Those targets that name parameters of experts and no module, each with the parameters."""
    targets = options["target_modules"]
    if isinstance(targets, str):
        return {}
    modules = [name for name, _ in model.named_modules()]
    stacked = [name for name, parameter in model.named_parameters() if parameter.ndim == 3]
    found = {
        target: [name for name in stacked if ends_with(name, target)]
        for target in targets
        if not any(ends_with(name, target) for name in modules)
    }
    return {target: names for target, names in found.items() if names}


def with_experts(
    model: PreTrainedModel, config: LoraConfig, named: Mapping[str, Sequence[str]]
) -> tuple[LoraConfig, str]:
    """``config`` with these parameters as targets, and a line on them.

    Raises ``AdapterError`` for options with which PEFT adapts no parameters.
    """
    if (what := _obstacle(config)) is not None:
        raise AdapterError(
            f"target_modules: PEFT cannot adapt {', '.join(named)} {what}",
            hint="Leave the option out, or the experts.",
        )
    names = [name for group in named.values() for name in group]
    config.target_parameters = sorted(
        {*(config.target_parameters or []), *_few_names(model, names)}
    )
    return config, f"Experts are adapted as parameters: {in_short(names)}"


def _converted(model: PreTrainedModel, config: LoraConfig) -> LoraConfig:
    """``config`` as PEFT will see it when it puts the adapter on."""
    from peft.utils.transformers_weight_conversion import (
        convert_peft_config_for_transformers,
        get_model_conversion_mapping,
    )

    result = copy.deepcopy(config)
    try:
        convert_peft_config_for_transformers(
            result, model=model, conversions=get_model_conversion_mapping(model)
        )
    except ValueError as error:
        raise AdapterError(f"PEFT cannot attach this adapter to the model: {error}") from error
    return result


def _obstacle(config: LoraConfig) -> str | None:
    """The option with which PEFT cannot adapt parameters."""
    if config.lora_dropout:
        return "with lora_dropout"
    if config.alora_invocation_tokens:
        return "with alora_invocation_tokens"
    if config.use_dora:
        return "with use_dora"
    return "with this init_lora_weights" if isinstance(config.init_lora_weights, str) else None


def _places(
    model: PreTrainedModel, parameters: Collection[str], layers: list[int] | int | None
) -> list[str]:
    """The full names of the model's parameters that are meant, in the given layers."""
    wanted = {layers} if isinstance(layers, int) else set(layers or [])
    found = []
    for name, _ in model.named_parameters():
        number = re.match(r".*?\.[^.]*\.(\d+)\.", name)
        inside = not wanted or (number is not None and int(number.group(1)) in wanted)
        if inside and any(ends_with(name, parameter) for parameter in parameters):
            found.append(name)
    return found


def _few_names(model: PreTrainedModel, wanted: Collection[str]) -> list[str]:
    """The shortest endings that mean these parameters and no others."""
    everything = [name for name, _ in model.named_parameters()]
    found: dict[str, None] = {}
    for name in wanted:
        parts = name.split(".")
        endings = (".".join(parts[-n:]) for n in range(2, len(parts) + 1))
        fits = (
            ending
            for ending in endings
            if all(other in wanted for other in everything if ends_with(other, ending))
        )
        found[next(fits, name)] = None
    return sorted(found)
