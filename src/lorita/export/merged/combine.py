"""The weighted combination of several adapters, by PEFT's methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorita.errors import AdapterError, SettingsError
from lorita.inference.checked_base import check_same_base
from lorita.inference.resolve import resolve_adapter
from lorita.models.adapter_kinds import plain_lora_problems, require_mergeable
from lorita.system.quiet import quiet_libraries

if TYPE_CHECKING:
    from peft import PeftModel

METHODS = (
    "cat", "linear", "svd", "ties", "ties_svd", "dare_ties", "dare_linear", "dare_ties_svd",
    "dare_linear_svd", "magnitude_prune", "magnitude_prune_svd",
)  # fmt: skip
"""PEFT's names. ``cat`` is the exact weighted sum, for any ranks."""


@dataclass(frozen=True)
class Part:
    """Another adapter and its weight."""

    adapter: str
    weight: float = 1.0


def parse_part(text: str) -> Part:
    """The adapter and weight in ``RUN`` or ``RUN:0.5``; ``SettingsError`` if it is neither."""
    name, colon, number = text.rpartition(":")
    if not colon or "/" in number or "\\" in number:
        return Part(text)
    try:
        return Part(name, float(number))
    except ValueError:
        raise SettingsError(
            f"adapter = {text!r}: {number!r} is not a number", hint="Write RUN or RUN:0.5."
        ) from None


def combine(
    model: PeftModel,
    weight: float,
    others: Sequence[Part],
    method: str,
    base: str | None,
    *,
    trust_remote_code: bool = False,
) -> None:
    """Load ``others`` next to the model's adapter and make the combination the active adapter.

    ``weight`` is that of the model's own adapter. Raises ``SettingsError`` for an unknown
    ``method`` and ``AdapterError`` for adapters that do not fit or that PEFT cannot combine.
    """
    if not others and weight == 1.0:
        return
    if method not in METHODS:
        raise SettingsError(
            f"combination_type = {method!r}: PEFT has no such method",
            hint=f"Choose one of: {', '.join(METHODS)}.",
        )
    names, weights = ["default"], [weight]
    for number, part in enumerate(others, start=1):
        other = resolve_adapter(part.adapter, base, trust_remote_code=trust_remote_code)
        require_mergeable(other.adapter)
        check_same_base(other, model.get_base_model())
        names.append(f"other{number}")
        weights.append(part.weight)
        try:
            with quiet_libraries():
                model.load_adapter(str(other.adapter), adapter_name=names[-1])
        except Exception as error:
            raise AdapterError(
                f"{part.adapter}: does not fit the first adapter's base ({error})"
            ) from error
    _require_plain(model, names)
    options = {"density": 0.5} if method.startswith(("ties", "dare", "magnitude")) else {}
    try:
        model.add_weighted_adapter(names, weights, "combined", method, **options)
    except (ValueError, NotImplementedError, RuntimeError) as error:
        raise AdapterError(f"PEFT cannot combine these adapters: {error}") from error
    model.set_adapter("combined")
    model.requires_grad_(False)


def _require_plain(model: PeftModel, names: Sequence[str]) -> None:
    for name in names:
        found = plain_lora_problems(model.peft_config[name])
        if found:
            raise AdapterError(
                f"only plain LoRA can be combined, but there are {', '.join(found)}",
                hint="Merge one adapter on its own, then merge the next one into the result.",
            )
