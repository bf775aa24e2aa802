"""What kind of adapter a folder in PEFT's format holds, and whether lorita can use it.

Judged from ``adapter_config.json`` alone, before any base is loaded. Usable are the kinds that
change weights, so that they can be merged; PEFT computes them all.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from lorita.errors import AdapterError, LoritaWarning
from lorita.models.adapter_files import CONFIG_FILE
from lorita.models.adapter_schema import read_adapter_file

USABLE = (
    "LORA", "ADALORA", "IA3", "LOHA", "LOKR", "OFT", "BOFT", "VERA", "HRA", "MISS", "RANDLORA",
    "FOURIERFT", "C3A", "DELORA", "SHIRA", "TRAINABLE_TOKENS",
)  # fmt: skip
"""PEFT's names of the kinds that lorita loads and merges. Only LoRA can be trained."""
_VIRTUAL = (
    "PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "CARTRIDGE",
    "ADAPTION_PROMPT",
)  # fmt: skip
_NEUTRAL: tuple[Any, ...] = (None, False, "", [], {})
_REFUSED = {
    "arrow_config": "an Arrow router over several LoRAs",
    "layer_replication": "for a model with replicated layers (layer_replication)",
    "use_bdlora": "a block-diagonal LoRA for several GPUs (BD-LoRA)",
    "monteclora_config": "a Monte Carlo LoRA, which draws random numbers",
}
"""LoRA options that make another kind of adapter, and what it is."""


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The values of the adapter's configuration file; ``AdapterError`` if it cannot be read."""
    return read_adapter_file(folder / CONFIG_FILE)


def check_kind(folder: Path) -> None:
    """Raise ``AdapterError`` for an adapter that lorita cannot use; it says what it is."""
    values = read_adapter_config(folder)
    kind = values.get("peft_type")
    hint = "Use it with the program that it was made for, or with PEFT itself."
    if kind is None:
        raise AdapterError(
            f"{folder / CONFIG_FILE}: has no peft_type, so it is not a configuration of PEFT"
        )
    if kind in _VIRTUAL:
        raise AdapterError(
            f"{folder}: {kind} trains virtual tokens, not weights; lorita uses adapters of weights",
            hint=hint,
        )
    if kind not in USABLE:
        raise AdapterError(
            f"{folder}: {kind} is not a kind of adapter that lorita uses",
            hint=f"These are: {', '.join(USABLE)}. {hint}",
        )
    for option, what in _REFUSED.items():
        if kind == "LORA" and values.get(option) not in _NEUTRAL:
            raise AdapterError(
                f"{folder}: it is {what}; used as plain LoRA, it would answer differently",
                hint=hint,
            )


def require_mergeable(folder: Path, into: str = "be merged") -> None:
    """``AdapterError`` for an adapter that no weights can hold: one that acts on some tokens.

    ``into`` says what cannot be done with it.
    """
    if read_adapter_config(folder).get("alora_invocation_tokens"):
        raise AdapterError(
            f"{folder}: an activated LoRA (aLoRA) cannot {into}: it acts only after its "
            "invocation, and would then act on every token",
            hint="Use it as an adapter: lorita generate and serve, PEFT, vLLM, or llama.cpp with "
            "the file of lorita export gguf RUN OUT.gguf.",
        )


def warn_of_ignored(folder: Path) -> None:
    """A ``LoritaWarning`` about options of the adapter that the installed PEFT does not know."""
    import peft

    values = read_adapter_config(folder)
    ignored = _ignored(values["peft_type"], values)
    if ignored:
        warnings.warn(
            f"{folder / CONFIG_FILE}: the installed PEFT {peft.__version__} does not know "
            f"{', '.join(ignored)} and ignores it; a newer PEFT made this adapter",
            LoritaWarning,
            stacklevel=2,
        )


def _ignored(kind: str, values: dict[str, Any]) -> list[str]:
    """The options that PEFT will ignore, as far as they ask for something."""
    import dataclasses

    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    known = {field.name for field in dataclasses.fields(PEFT_TYPE_TO_CONFIG_MAPPING[kind])}
    unknown = sorted(values.keys() - known)
    return [f"{name} = {values[name]!r}" for name in unknown if values[name] not in _NEUTRAL]


def plain_lora_problems(config: Any) -> list[str]:
    """What a PEFT configuration trains besides two plain matrices for each layer."""
    if str(getattr(config.peft_type, "value", config.peft_type)) != "LORA":
        return [f"{config.peft_type.value} instead of LoRA"]
    found = {
        "DoRA's magnitudes": config.use_dora,
        "trained biases": config.bias != "none" or config.lora_bias,
        f"whole modules ({', '.join(config.modules_to_save or [])})": config.modules_to_save,
        "individually trained tokens": config.trainable_token_indices,
        "parameters of experts": config.target_parameters,
        "QALoRA's groups": config.use_qalora,
        "KaSA's singular values": config.kasa_config,
        "VeLoRA's projections": config.velora_config,
    }
    return [what for what, there in found.items() if there]
