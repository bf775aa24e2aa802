"""Adapters that start with a product that is not zero, on a base that stays as it is.

PiSSA, OLoRA, CorDA and LoRA-GA start with such a B·A, and PEFT takes it out of the base's weights,
so that the adapter fits no other copy of the base. Here every layer gets twice the rank, and the
second half, which is never trained, takes the start out again: W + s·(B·A - B0·A0). What is saved
is plain LoRA on the unchanged base, exact from the first step to the last.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from peft import PeftModel


def takes_out_start(scheme: object) -> bool:
    """Whether an initialisation starts with a product that half of the rank takes out again."""
    return isinstance(scheme, str) and bool(
        re.fullmatch(r"pissa(_niter_\d+)?|olora|corda|lora_ga", scheme)
    )


def is_computed(scheme: object) -> bool:
    """Whether an initialisation is made here, after the adapter is attached."""
    return takes_out_start(scheme) or scheme in ("eva", "mica", "loftq")


def attached_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """LoRA options of the adapter that is attached for these: plain, and with room for the start.

    The scale of each layer stays what it was.
    """
    scheme = options.get("init_lora_weights")
    if not is_computed(scheme):
        return dict(options)
    plain = {**options, "init_lora_weights": True}
    if not takes_out_start(scheme):
        return plain
    more = math.sqrt(2) if options.get("use_rslora") else 2
    plain["r"] = 2 * (options.get("r") or 8)
    plain["lora_alpha"] = more * (options.get("lora_alpha") or 8)
    for name, factor in (("rank_pattern", 2), ("alpha_pattern", more)):
        if options.get(name):
            plain[name] = {key: factor * value for key, value in options[name].items()}
    return plain


def start_notes(options: Mapping[str, Any]) -> list[str]:
    """A line about a start that makes the saved adapter larger, or ties it to rounded weights."""
    scheme = options.get("init_lora_weights")
    if scheme == "loftq":
        return [
            "init_lora_weights loftq: the adapter starts as what rounding took from the weights, "
            "so it belongs to this base at this --base-precision"
        ]
    if not takes_out_start(scheme):
        return []
    return [
        f"init_lora_weights {scheme}: saved as plain LoRA of twice the rank, of which one half "
        "learns and the other takes the start out again; the base is unchanged"
    ]


@dataclass(frozen=True)
class FixedHalves:
    """The parts of an adapter that are not trained: in each matrix, the second half of the rank."""

    pairs: tuple[tuple[torch.nn.Parameter, torch.nn.Parameter], ...] = ()

    @property
    def size(self) -> int:
        """How many numbers these are."""
        return sum(a.numel() // 2 + b.numel() // 2 for a, b in self.pairs)

    def keep_in(self, optimizer: torch.optim.Optimizer) -> None:
        """Keep them as they are in every step of ``optimizer``, weight decay included."""
        kept: list[torch.Tensor] = []

        def before(*_: Any) -> None:
            kept[:] = [part.clone() for part in self._parts()]

        def after(*_: Any) -> None:
            for part, value in zip(self._parts(), kept, strict=True):
                part.copy_(value)

        if self.pairs:
            optimizer.register_step_pre_hook(before)
            optimizer.register_step_post_hook(after)

    def stop_gradients(self) -> None:
        """Give them no gradient: its norm is that of what is trained."""
        for a, b in self.pairs:
            a.register_hook(lambda grad: _without(grad, grad.shape[0] // 2, 0))
            b.register_hook(lambda grad: _without(grad, grad.shape[1] // 2, 1))

    def _parts(self) -> Iterator[torch.Tensor]:
        for a, b in self.pairs:
            half = a.shape[0] // 2
            yield a.data[half:]
            yield b.data[:, half:]


def _without(grad: torch.Tensor, start: int, dim: int) -> torch.Tensor:
    kept = grad.clone()
    kept.narrow(dim, start, grad.shape[dim] - start).zero_()
    return kept


def fixed_halves(model: PeftModel, scheme: object) -> FixedHalves:
    """What is not trained of an adapter that was attached for this initialisation."""
    from peft.tuners.lora import Linear

    if not takes_out_start(scheme):
        return FixedHalves()
    layers: list[Any] = [m for m in model.modules() if isinstance(m, Linear)]
    pairs = ((m.lora_A["default"].weight, m.lora_B["default"].weight) for m in layers)
    return FixedHalves(tuple(pairs))
