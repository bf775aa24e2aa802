"""Activated LoRA (aLoRA): adapters that act only from an invocation, a run of tokens, on.

Before the last invocation in a row the model computes what its base does, so that keys and values
up to there are the base's own (Greenewald et al., 2025, arXiv:2504.12397). PEFT passes the places
with each call of its own wrapper; here they are found in the token ids of any call of the model
itself, and every layer reads them from one object.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lorita.engine.causal_lm import body_of, causal_lm
from lorita.engine.kernels.row_layout import current_layout
from lorita.errors import AdapterError

_MARK = "_lorita_activation"
EARLY = 3
"""A place that is in the middle of the rows of checks."""
NOWHERE = 2**31
"""A place after the end of every row."""


def invocation_start(ids: Sequence[int], invocation: Sequence[int]) -> int | None:
    """Where the last occurrence of ``invocation`` in ``ids`` begins; None if there is none."""
    first, n, wanted = invocation[0], len(invocation), list(invocation)
    starts = (at for at in range(len(ids) - n, -1, -1) if ids[at] == first)
    return next((at for at in starts if list(ids[at : at + n]) == wanted), None)


class Activation:
    """On which tokens of the current call the adapters of one model act.

    ``invocations`` are the tokens that each adapter waits for, by the adapter's name. What was
    found stays until the next call: gradient checkpointing computes layers again in the backward
    pass.
    """

    def __init__(self, invocations: dict[str, tuple[int, ...]]) -> None:
        self.invocations = invocations
        self.forced: int | None = None
        """Act from this place of each row on, whatever its tokens: see ``acting_from``."""
        self._acts: dict[str, Tensor] = {}
        self._before: WeakKeyDictionary[Any, dict[str, Tensor]] = WeakKeyDictionary()
        self._hooks: list[Any] = []

    def of(self, adapter: str, x: Tensor) -> Tensor:
        """1 for the tokens that the adapter acts on and else 0: [..., 1], for a layer's input x.

        ``AdapterError`` for a layer that computes other rows than the tokens of the call.
        """
        acts_BL = self._acts.get(adapter)
        if acts_BL is None or acts_BL.numel() != x.numel() // x.shape[-1]:
            raise AdapterError(
                "an activated LoRA cannot be on a layer that computes only some of the tokens, "
                "such as an expert or the output head",
                hint="Leave such layers out with --exclude-modules.",
            )
        return acts_BL.to(x.dtype).reshape(*x.shape[:-1], 1)

    def see(self, ids_BL: Tensor, mask_BL: Tensor | None = None, cache: Any = None) -> None:
        """Find where the adapters act in a call with these tokens.

        ``mask_BL`` is 0 at padding; ``cache`` holds the tokens before them, if there are any.
        """
        layout = current_layout()
        if layout is not None and ids_BL.shape[0] == 1 and layout.num_tokens == ids_BL.shape[1]:
            rows = ids_BL[0].split(list(layout.lengths))
            self._acts = {
                name: torch.cat([self._found(row[None], wanted)[0] for row in rows])
                for name, wanted in self.invocations.items()
            }
            return
        before = _seen(self._before, cache)
        self._acts = {}
        for name, wanted in self.invocations.items():
            found_BL = self._found(ids_BL, wanted, mask_BL)
            if before is not None:
                found_BL = found_BL | before[name][:, None]
            self._acts[name] = found_BL

    def keep_for(self, cache: Any) -> None:
        """Remember with the cache of a call which rows the adapters act on from here on."""
        try:
            self._before[cache] = {name: acts[:, -1] for name, acts in self._acts.items()}
        except (TypeError, IndexError):  # no object of its own, or rows end to end
            return

    def _found(
        self, ids_BL: Tensor, wanted: Sequence[int], mask_BL: Tensor | None = None
    ) -> Tensor:
        """Where the tokens are that come after the start of each row's last invocation."""
        length = ids_BL.shape[1]
        place_L = torch.arange(length, device=ids_BL.device)
        real_BL = _real(ids_BL, mask_BL)
        if self.forced is not None:
            first = (~real_BL).long().cumprod(1).sum(1, keepdim=True)  # padding on the left
            return place_L >= first + self.forced
        if length < len(wanted):
            return torch.zeros_like(real_BL)
        wanted_N = torch.tensor(list(wanted), device=ids_BL.device)
        equal = (ids_BL.unfold(1, len(wanted), 1) == wanted_N).all(-1)
        equal &= real_BL.unfold(1, len(wanted), 1).all(-1)
        last_B1 = torch.where(equal, place_L[: equal.shape[1]], -1).amax(1, keepdim=True)
        return (place_L >= last_B1) & (last_B1 >= 0)

    def close(self) -> None:
        """Stop looking at the calls of the model."""
        for hook in self._hooks:
            hook.remove()


class ActivatedVariant:
    """Takes the place of PEFT's own variant in a layer; cannot be merged, as that one."""

    def __init__(self, activation: Activation) -> None:
        self.activation = activation

    def forward(
        self, module: Any, active_adapter: str, x: Tensor, result: Tensor, **_: Any
    ) -> Tensor:
        """The layer's output, with the adapter's part on the tokens that it acts on."""
        down, up = module.lora_A[active_adapter], module.lora_B[active_adapter]
        x = x.to(down.weight.dtype)
        added = up(down(module.lora_dropout[active_adapter](x))) * module.scaling[active_adapter]
        return result + (added * self.activation.of(active_adapter, x)).to(result.dtype)

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("an activated LoRA cannot be merged")

    merge_safe = merge_unsafe = unmerge = _refuse


def activate(model: nn.Module) -> Activation | None:
    """Let the activated adapters of a model act in every call; None if it has none.

    ``model`` is PEFT's or the model inside. Again after adapters were put on.
    """
    lm = causal_lm(model)
    configs = getattr(lm, "peft_config", None) or {}
    invocations = {
        name: tuple(config.alora_invocation_tokens)
        for name, config in configs.items()
        if getattr(config, "alora_invocation_tokens", None)
    }
    deactivate(lm)
    if not invocations:
        return None
    planned = any(parameter.is_meta for parameter in lm.parameters())
    # The body is found by computing some tokens: before the layers need to know which ones.
    parts = [] if planned else dict.fromkeys((lm, body_of(lm)))
    found = Activation(invocations)
    vars(lm)[_MARK] = found
    for module in lm.modules():
        for name in getattr(module, "lora_variant", {}):
            if name in invocations:
                module.lora_variant[name] = ActivatedVariant(found)
    for part in parts:
        found._hooks += [
            part.register_forward_pre_hook(_looking(found, part), with_kwargs=True),
            part.register_forward_hook(_keeping(found, part)),
        ]
    return found


def activation_of(model: nn.Module) -> Activation | None:
    """What ``activate`` made for this model; None if none of its adapters is an activated one."""
    found: Activation | None = vars(causal_lm(model)).get(_MARK)
    return found


@contextmanager
def acting_from(model: nn.Module, place: int = EARLY) -> Iterator[None]:
    """In this context, activated adapters act from this place of each row on, whatever its tokens:
    for checks, whose rows have no invocation, and with ``NOWHERE``."""
    activation = activation_of(model)
    if activation is None:
        yield
        return
    activation.forced = place
    try:
        yield
    finally:
        activation.forced = None


def deactivate(lm: nn.Module) -> None:
    """Forget what ``activate`` made, as when adapters are taken off."""
    known = vars(lm).pop(_MARK, None)
    if known is not None:
        known.close()


def _looking(activation: Activation, part: nn.Module) -> Any:
    def see(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if module is not part:
            return  # a twin, whose tokens are of several texts
        ids_BL = args[0] if args else kwargs.get("input_ids")
        if ids_BL is None:
            if kwargs.get("inputs_embeds") is None:
                return
            raise AdapterError("an activated LoRA needs the token ids of a text, not embeddings")
        mask = kwargs.get("attention_mask")
        cache = next(
            (kwargs[n] for n in ("past_key_values", "cache_params") if kwargs.get(n) is not None),
            None,
        )
        activation.see(ids_BL, mask if isinstance(mask, Tensor) else None, cache)

    return see


def _keeping(activation: Activation, part: nn.Module) -> Any:
    def keep(module: nn.Module, args: Any, output: Any) -> None:
        if module is not part:
            return
        for name in ("past_key_values", "cache_params"):
            cache = getattr(output, name, None)
            if cache is not None:
                activation.keep_for(cache)

    return keep


def _seen(known: WeakKeyDictionary[Any, dict[str, Tensor]], cache: Any) -> dict[str, Tensor] | None:
    """Which rows of a cache the adapters act on already; None if it holds no token yet."""
    if cache is None:
        return None
    try:
        if cache in known:
            return known[cache]
    except TypeError:
        pass
    length = getattr(cache, "get_seq_length", lambda: 0)()
    if length:
        raise AdapterError("the cache of an activated LoRA has tokens of a call that was not seen")
    return None


def _real(ids_BL: Tensor, mask_BL: Tensor | None) -> Tensor:
    """Where the tokens of the call are, and not padding."""
    if mask_BL is None or mask_BL.ndim != 2 or mask_BL.shape[1] < ids_BL.shape[1]:
        return torch.ones_like(ids_BL, dtype=torch.bool)
    return mask_BL[:, -ids_BL.shape[1] :].bool()
