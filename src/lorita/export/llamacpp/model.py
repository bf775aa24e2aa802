"""A run, or a base model, answered by llama.cpp instead of transformers: the same prompts, put in
the same way, two to four times as fast on a CPU.

Prompts go in as the tokens of the run's own tokenizer, and tokens come out, so that nothing depends
on how llama.cpp cuts a text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.errors import SettingsError
from lorita.export.llamacpp import files as llama_files
from lorita.inference import llamacpp
from lorita.inference.options import GenerationOptions
from lorita.inference.through_transformers import until_stop
from lorita.inference.tuned_model import generation_options
from lorita.models.adapter_embeddings import tokens_needed
from lorita.models.base import load_tokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lorita.inference.options import GenerationArguments
    from lorita.inference.resolve import Resolved

AT_ONCE = 8
"""Prompts answered side by side."""
SMALLEST_CONTEXT = 256
"""Tokens of a prompt and its answer that there is always room for."""


class LlamaModel:
    """A base model, or one with an adapter, behind llama.cpp; ``open_llamacpp`` makes it."""

    def __init__(self, resolved: Resolved, *, dtype: str = "auto") -> None:
        self.base = resolved.base
        self.tokenizer = resolved.tokenizer()
        self.prompt_format = resolved.prompt_format(self.tokenizer)
        self._resolved = resolved
        self._dtype = dtype
        self._adapter = llama_files.adapter_file(resolved) if resolved.folder is not None else None
        self._servers: dict[Path, tuple[int, llamacpp.LlamaCpp]] = {}

    @property
    def is_merged(self) -> bool:
        """Whether base and adapter are one file, because the adapter cannot be one alone."""
        return self._resolved.folder is not None and self._adapter is None

    def generate(self, prompt: str, **options: Unpack[GenerationArguments]) -> str:
        """What the model adds to ``prompt``; options as in ``GenerationOptions``."""
        return self.generate_batch([prompt], **options)[0]

    def generate_batch(
        self,
        prompts: Sequence[str],
        *,
        with_adapter: bool = True,
        **options: Unpack[GenerationArguments],
    ) -> list[str]:
        """What the model adds to each prompt; ``with_adapter=False`` is the base's answer.

        Greedy answers are transformers' as far as the file's format allows. Drawn ones are others,
        for llama.cpp has its own random numbers.
        """
        return self.answer(prompts, generation_options(options), with_adapter=with_adapter)

    def answer(
        self,
        prompts: Sequence[str],
        options: GenerationOptions,
        *,
        with_adapter: bool = True,
        advance: Callable[[float], None] | None = None,
    ) -> list[str]:
        """As ``generate_batch``, with the options as they are; see ``Answers``."""
        options = options.for_prompts(self.prompt_format)
        rows = [self.prompt_format.ids(self.tokenizer, prompt) for prompt in prompts]
        for prompt, ids in zip(prompts, rows, strict=True):
            if not ids:
                raise SettingsError(f"the prompt {prompt!r} has no tokens to continue from")
        if not rows:
            return []
        if not with_adapter:
            self._require_known(rows)
        stops = set(self.prompt_format.stops(self.tokenizer))
        server = self._server(max(map(len, rows)) + options.max_new_tokens, with_adapter)
        said = server.answer(rows, options, with_adapter=with_adapter)
        if advance is not None:
            advance(len(rows))  # llama.cpp tells nothing before
        return [self.prompt_format.answer(self.tokenizer, until_stop(ids, stops)) for ids in said]

    def _require_known(self, rows: Sequence[Sequence[int]]) -> None:
        """``SettingsError`` for tokens that only the adapter brings: the base has no rows for them.

        llama.cpp would stop the process.
        """
        needed = tokens_needed(self._resolved.folder) if self._resolved.folder else None
        own = {*load_tokenizer(self.base).get_vocab().values()} if needed else set()
        if needed and any(token not in own for ids in rows for token in ids):
            raise SettingsError(
                "the base's answers through llama.cpp: prompts have tokens that the adapter adds",
                hint="Use --engine transformers, which starts them as the mean of their pieces.",
            )

    def _server(self, tokens: int, with_adapter: bool) -> llamacpp.LlamaCpp:
        """The file that answers, loaded with room for ``tokens`` in each of its rows."""
        merged = self.is_merged and with_adapter
        if merged:
            path = llama_files.merged_file(self._resolved, self._dtype)
        else:
            path = llama_files.base_file(self.base, self._dtype)
        room, server = self._servers.get(path, (0, None))
        if server is None or room < tokens:
            self._servers.pop(path, None)
            room = max(SMALLEST_CONTEXT, 1 << (tokens - 1).bit_length())
            server = llamacpp.LlamaCpp(
                path,
                adapter=None if merged else self._adapter,
                context=room,
                threads=llamacpp.threads(),
                parallel=AT_ONCE,
                exact=self._dtype == "float32",
            )
            self._servers[path] = room, server
        return server


def open_llamacpp(resolved: Resolved, dtype: str = "auto") -> LlamaModel:
    """What was resolved (a run, any LoRA adapter, or a base model), behind llama.cpp.

    Files that llama.cpp needs and that do not exist are made once and kept (``HF_HOME``).
    ``dtype`` is the base's: ``auto`` is its own GGUF file, or float32 where it is none or the
    adapter must be merged into it; with ``float32`` llama.cpp also computes in float32.
    ``UserError`` where llama.cpp is not installed, ``AdapterError`` for an adapter of another base.
    """
    llamacpp.require()
    return LlamaModel(resolved, dtype=dtype)
