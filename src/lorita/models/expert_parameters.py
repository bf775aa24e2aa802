"""Experts that are named as targets by the parameter that they share: ``experts.gate_up_proj``.

PEFT adapts such parameters by ``target_parameters``, in every kind of model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lorita.errors import AdapterError
from lorita.models.experts import few_names, obstacle
from lorita.models.targets import ends_with, in_short

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel


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
    if (what := obstacle(config)) is not None:
        raise AdapterError(
            f"target_modules: PEFT cannot adapt {', '.join(named)} {what}",
            hint="Leave the option out, or the experts.",
        )
    names = [name for group in named.values() for name in group]
    config.target_parameters = sorted({*(config.target_parameters or []), *few_names(model, names)})
    return config, f"Experts are adapted as parameters: {in_short(names)}"
