"""The models that are served through llama.cpp: a base's GGUF file, and adapters on it.

llama.cpp takes adapters only when it loads the base. When a run appears in the watched folder, the
base is loaded again, with all adapters; texts that were begun before are written to their end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lorita.errors import AdapterError, SettingsError
from lorita.export.llamacpp import files as llama_files
from lorita.inference import llamacpp
from lorita.inference.resolve import Resolved
from lorita.models.base import Base, load_config, load_tokenizer
from lorita.models.base_schema import layers_of
from lorita.models.context import context_length
from lorita.serving.api_errors import invalid
from lorita.serving.guides import LlamaGuide, Rules, TokenGuide
from lorita.serving.llama_writer import LlamaWriter
from lorita.serving.registry import BASE_NAME, Registry, Served, base_served, run_served
from lorita.system.memory import room

if TYPE_CHECKING:
    from lorita.inference.one_at_a_time import TextWriter

SLOTS = 4
"""Slots of each model while there are few models."""
MOST_SLOTS = 16
"""Slots together, unless there are more models."""
CONTEXTS = 4
"""Room for so many texts of the model's full length, if there is memory for it."""
_SHARE = 3
"""One part in so many of the free memory is for keys and values."""
_HINT = "Start the server without --engine llama.cpp for that."
log = logging.getLogger("lorita.serving")


class LlamaRegistry(Registry):
    """As ``Registry``, for texts that llama.cpp writes."""

    def __init__(self, base: Base, watched: Path | None = None, dtype: str = "auto") -> None:
        llamacpp.require()
        self._dtype, self._file = dtype, llama_files.base_file(base, dtype)
        self.tokenizer = load_tokenizer(base)
        self.base, self.watched = base, watched
        self.called, self.on_demand = lambda run: run.name, lambda name: None
        self.refused, self._loaded, self._count = {}, {}, 0
        config: Any = load_config(base)
        self.words = int(config.get_text_config().vocab_size)
        own = self.tokenizer.eos_token_id
        self.own_stops = frozenset([own] if isinstance(own, int) else [])
        self.shared = _room_for_texts(config, exact=dtype == "float32")
        own_context = context_length(config)
        self.context = min(own_context or self.shared, self.shared)
        if own_context is not None and self.context < own_context:
            log.warning("memory allows prompts and answers of %d tokens together", self.context)
        self.served = {BASE_NAME: base_served(self.tokenizer)}
        self._files: dict[str, Path] = {}

    def guide_maker(self, rules: Rules) -> Callable[[], TokenGuide | None]:
        """What makes the guide of each answer; ``ApiError`` for rules that are not llama.cpp's."""
        for name, given in (
            ("presence_penalty", rules.presence_penalty),
            ("frequency_penalty", rules.frequency_penalty),
            ("logprobs", rules.logprobs is not None),
            (rules.grammar_of, rules.make_grammar is not None),
        ):
            if given:
                raise invalid(f"{name}: not with the engine llama.cpp. {_HINT}", name)
        return lambda: LlamaGuide(rules.logit_bias)

    def writer(self) -> TextWriter:
        """A llama.cpp server with every adapter that is served now."""
        adapters = [name for name in self._files if name in self._used()]
        slots = max(1, min(SLOTS, MOST_SLOTS // (1 + len(adapters))))
        server = llamacpp.LlamaCpp(
            self._file,
            adapters=[self._files[name] for name in adapters],
            context=self.shared,
            threads=llamacpp.threads(),
            parallel=slots * (1 + len(adapters)),
            share=True,
            exact=self._dtype == "float32",
        )
        tokens = self.tokenizer.added_tokens_decoder
        controls = {number: token.content for number, token in tokens.items()}
        writer = LlamaWriter(server, adapters, slots=slots, controls=controls)
        return cast("TextWriter", writer)

    def cache_limit(self) -> int | None:
        """Tokens of open texts."""
        return self.shared

    def drop_unused(self) -> None:
        """Forget adapters that no served model uses."""
        used = self._used()
        self._files = {name: path for name, path in self._files.items() if name in used}

    def _used(self) -> set[str | None]:
        return {served.adapter for served in self.served.values()}

    def _load(self, found: Resolved, name: str) -> Served:
        if found.base.reference != self.base.reference:
            raise SettingsError(
                f"{found.folder} was trained on {found.base.name}, not on {self.base.name}",
                hint="Serve it with a server of its own.",
            )
        own = found.tokenizer()
        if own.get_vocab() != self.tokenizer.get_vocab():
            raise AdapterError(f"{found.folder}: its tokenizer is not that of {self.base.name}")
        file = llama_files.adapter_file(replace(found, base=self.base))
        if file is None:
            raise AdapterError(
                f"{found.folder}: llama.cpp cannot put this kind of adapter on a base", hint=_HINT
            )
        self._count += 1
        adapter = f"m{self._count}"
        self._files[adapter] = file
        return run_served(found, adapter, found.prompt_format(own), own)


def _room_for_texts(config: Any, *, exact: bool) -> int:
    """Tokens whose keys and values there is room for, of all open texts together."""
    config = config.get_text_config()
    widths = []
    for layer in layers_of(config):
        heads = getattr(layer, "num_key_value_heads", None) or layer.num_attention_heads
        size = getattr(layer, "head_dim", None) or layer.hidden_size // layer.num_attention_heads
        widths.append(heads * size)
    each = 2 * config.num_hidden_layers * max(widths) * (4 if exact else 2)
    wanted = CONTEXTS * (context_length(config) or 2048)
    here = room()
    fits = wanted if here is None else max(here.free, 0) // _SHARE // each
    return max(256, min(wanted, fits) // 256 * 256)


def open_llama_registry(
    names: list[Resolved], watched: Path | None, dtype: str = "auto"
) -> LlamaRegistry:
    """The registry of what was resolved: base models and runs, all of one base."""
    registry = LlamaRegistry(names[0].base, watched, dtype)
    for found in names:
        if found.folder is not None:
            registry.add(found)
        elif found.base.reference != registry.base.reference:
            raise SettingsError(
                f"a server has one base, but {found.base.name} and {registry.base.name} were named",
                hint="Start a server for each base, on another --port.",
            )
    registry.update()
    return registry
