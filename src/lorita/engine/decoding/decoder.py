"""A causal model that writes several texts at once: new tokens in, logits of the next ones out.

Each text has a slot in the cache and its own length; texts of any lengths are computed together,
without padding. The model's own modules are called in the model's own order, on a twin
(``twin.py``): what is replaced are attention, which uses the cache, and products, which are limited
by how fast memory is read.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lorita.engine.activated import activation_of, invocation_start
from lorita.engine.causal_lm import body_of, causal_lm, head_of
from lorita.engine.decoding import ACTIVE
from lorita.engine.decoding.cache import Cache
from lorita.engine.decoding.check import why_not
from lorita.engine.decoding.forwards import Call, set_forwards
from lorita.engine.decoding.layers import join
from lorita.engine.decoding.twin import twin_of
from lorita.engine.families import angles_stretch, family_of
from lorita.engine.heads import LinearHead
from lorita.engine.kernels.decode import JoinedLayers
from lorita.engine.kernels.row_layout import RowLayout
from lorita.engine.plans import Unsuited
from lorita.engine.token_rows import set_token_rows


def usable_decoder(model: nn.Module, adapters: Sequence[str] = ()) -> Decoder | None:
    """A decoder whose numbers agree with the model's; None if there is none.

    Found out once for each model, again where adapters were put on or switched.
    """
    if why_not(model, Decoder) is not None:
        return None
    try:
        return Decoder(model, adapters)
    except Unsuited:
        return None


class Decoder:
    """One model's step. ``Unsuited`` if the model's structure is not known.

    ``adapters`` are names of adapters, of which each text may use another; without names, all texts
    use what is switched on. The weights are the model's own, as they are at each call.
    """

    def __init__(self, model: nn.Module, adapters: Sequence[str] = ()) -> None:
        lm = causal_lm(model)
        _require_known(model, lm)
        self.names = list(adapters) or [ACTIVE]
        self._own = lm
        self._activation = activation_of(lm)
        self.twin: Any = twin_of(lm)
        (path,) = (name for name, module in lm.named_modules() if module is body_of(lm))
        self._body: Any = self.twin.get_submodule(path)
        weight = lm.get_input_embeddings().weight
        self._call = Call(Cache([], weight.dtype))
        shapes = set_forwards(
            self.twin,
            family_of(lm.config),
            partial(join, names=self.names),
            self._call,
            one_adapter=not adapters and self._activation is None,
        )
        set_token_rows(self.twin)
        self._call.cache = Cache(shapes, weight.dtype)
        self._takes_places = (
            "position_ids" in inspect.signature(type(self._body).forward).parameters
        )
        self._head, self._joined_head = _head(lm, self.twin, self.names)
        self._lengths: dict[int, int] = {}
        self._adapters: dict[int, int] = {}
        self._acting: set[int] = set()
        """Slots in which an activated adapter has met its invocation."""

    def prefill(
        self, prompts: Sequence[Sequence[int]], adapters: Sequence[str | None] = ()
    ) -> tuple[list[int], Tensor]:
        """Give each prompt a slot; returns the slots, and the logits [n, V] of the next tokens.

        ``adapters`` names for each prompt the adapter that its text uses, None for none.
        """
        free = (slot for slot in range(len(self._lengths) + len(prompts)))
        slots = [slot for slot in free if slot not in self._lengths][: len(prompts)]
        for slot, name in zip(slots, adapters or [ACTIVE] * len(slots), strict=True):
            self._adapters[slot] = -1 if name is None else self.names.index(name)
            self._lengths[slot] = 0
        return slots, self.add(slots, prompts)

    def step(self, slots: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """Add a token to the text in each slot; returns the logits [n, V] of the next ones."""
        return self.add(slots, [[token] for token in tokens])

    def add(self, slots: Sequence[int], tokens: Sequence[Sequence[int]]) -> Tensor:
        """Add one token or more to the text in each slot; returns the logits [n, V] of the next."""
        rows = RowLayout(tuple(len(new) for new in tokens))
        before = [self._lengths[slot] for slot in slots]
        ends = [length + new for length, new in zip(before, rows.lengths, strict=True)]
        call, lengths = self._call, torch.tensor(rows.lengths)
        call.cache.reserve(max(slots) + 1, max(ends))
        call.slots_T = torch.tensor(slots).repeat_interleave(lengths)
        places_T = rows.positions(lengths.device)
        call.places_T = places_T + torch.tensor(before).repeat_interleave(lengths)
        adapters = [a for slot, new in zip(slots, tokens, strict=True) for a in self._of(slot, new)]
        call.adapter_T = torch.tensor(adapters)
        call.adapter = adapters[0] if len(set(adapters)) == 1 else None
        hidden_TD = self._hidden(torch.tensor([token for new in tokens for token in new]))
        self._lengths.update(zip(slots, ends, strict=True))
        last_n = lengths.cumsum(0) - 1
        return self._logits(hidden_TD[last_n], call.adapter_T[last_n])

    def cache_bytes(self, texts: int, tokens: int) -> int:
        """What the cache takes with so many texts of up to so many tokens each."""
        return self._call.cache.bytes_with(texts, tokens)

    def forget(self) -> None:
        """Give the cache's memory back. No text may be in it."""
        self._call.cache.clear()

    def leave(self, slot: int) -> None:
        """Free the slot for another text."""
        del self._lengths[slot], self._adapters[slot]
        self._acting.discard(slot)

    def _of(self, slot: int, new: Sequence[int]) -> list[int]:
        """The adapter of each new token of the text in a slot, -1 for the base alone."""
        adapter, activation = self._adapters[slot], self._activation
        if activation is None or adapter < 0 or slot in self._acting:
            return [adapter] * len(new)
        name = self._active if self.names[adapter] == ACTIVE else self.names[adapter]
        wanted = activation.invocations.get(name)
        if wanted is None:
            return [adapter] * len(new)
        start = invocation_start(new, wanted)
        if activation.forced is not None:
            start = max(0, activation.forced - self._lengths[slot])
            start = None if start >= len(new) else start
        if start is None:
            return [-1] * len(new)
        self._acting.add(slot)
        return [-1] * start + [adapter] * (len(new) - start)

    @property
    def _active(self) -> str:
        """The name of the adapter that is switched on in the model."""
        adapted = (m for m in self._own.modules() if getattr(m, "lora_variant", None))
        return next((name for m in adapted for name in m.active_adapters), "")

    def _hidden(self, ids_T: Tensor) -> Tensor:
        """The last hidden states [T, D] of new tokens."""
        options: dict[str, Any] = {"input_ids": ids_T[None], "use_cache": False}
        if self._takes_places:
            options["position_ids"] = self._call.places_T[None]
        with torch.inference_mode():
            hidden: Tensor = self._body(**options)[0]
        return hidden[0]

    def _logits(self, hidden_nD: Tensor, adapter_n: Tensor) -> Tensor:
        with torch.inference_mode():
            if self._joined_head is None:
                return self._head.logits(hidden_nD)
            logits_nV = self._joined_head(hidden_nD, adapter_n, torch.float32)
            if self._head.scale != 1.0:
                logits_nV *= self._head.scale
            cap = self._head.softcap
            return cap * torch.tanh(logits_nV / cap) if cap else logits_nV


def _require_known(model: Any, lm: Any) -> None:
    from transformers import GenerationMixin

    if body_of(lm) is lm:
        raise Unsuited("its logits do not come from hidden states alone")
    weight = lm.get_input_embeddings().weight
    if weight.device.type != "cpu" or weight.dtype not in (torch.float32, torch.bfloat16):
        raise Unsuited(f"{weight.dtype} on {weight.device.type}")
    if getattr(lm.generate, "__func__", None) is not GenerationMixin.generate:
        raise Unsuited("it writes texts in a way of its own")
    for config in getattr(model, "peft_config", {}).values():
        if getattr(config, "is_prompt_learning", False):
            raise Unsuited("its adapter adds tokens to the prompt")
    if angles_stretch(lm):  # what is in the cache would have to change
        raise Unsuited("its rotary angles depend on the length of the text")


def _head(lm: Any, twin: Any, names: Sequence[str]) -> tuple[Any, JoinedLayers | None]:
    """The model's head, and its layer as a product where it is one."""
    head = head_of(lm)
    if not isinstance(head, LinearHead):
        return head, None
    try:
        return head, join([twin.get_output_embeddings()], names)
    except Unsuited:
        if list(names) != [ACTIVE]:
            raise
        return replace(head, module=twin.get_output_embeddings()), None
