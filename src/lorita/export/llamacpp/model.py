"""A run, or a base model, answered by llama.cpp instead of transformers: the same prompts, put in
the same way, two to four times as fast on a CPU.

Prompts go in as the tokens of the run's own tokenizer, and tokens come out, so that nothing depends
on how llama.cpp cuts a text.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lorita.data.tokens.prompt_format import PromptFormat
from lorita.engine.numerics import choose_threads, usable_cores
from lorita.errors import SettingsError
from lorita.evaluation.comparison import Comparison, compared
from lorita.export.llamacpp import files as llama_files
from lorita.inference import llamacpp
from lorita.inference.generation import GenerationOptions, until_stop
from lorita.inference.load import find_any, find_run_base, run_prompt_format, run_tokenizer
from lorita.inference.tuned_model import generation_options
from lorita.models.adapter_sources import find_adapter
from lorita.models.base import Base, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AT_ONCE = 8
"""Prompts answered side by side."""
SMALLEST_CONTEXT = 256
"""Tokens of a prompt and its answer that there is always room for."""


class LlamaModel:
    """A base model, or one with an adapter, behind llama.cpp; ``load`` makes it."""

    def __init__(
        self,
        base: Base,
        tokenizer: PreTrainedTokenizerBase,
        prompt_format: PromptFormat | None = None,
        *,
        folder: Path | None = None,
        dtype: str = "auto",
    ) -> None:
        self.base = base
        self.tokenizer = tokenizer
        self.prompt_format = prompt_format or PromptFormat()
        self._folder = folder
        self._dtype = dtype
        self._adapter = llama_files.adapter_file(folder, base) if folder is not None else None
        self._servers: dict[Path, tuple[int, llamacpp.LlamaCpp]] = {}

    @property
    def is_merged(self) -> bool:
        """Whether base and adapter are one file, because the adapter cannot be one alone."""
        return self._folder is not None and self._adapter is None

    def generate(self, prompt: str, **options: Any) -> str:
        """What the model adds to ``prompt``; options as in ``GenerationOptions``."""
        return self.generate_batch([prompt], **options)[0]

    def generate_batch(
        self, prompts: Sequence[str], *, with_adapter: bool = True, **options: Any
    ) -> list[str]:
        """What the model adds to each prompt; ``with_adapter=False`` is the base's answer.

        Greedy answers are transformers' as far as the file's format allows. Drawn ones are others,
        for llama.cpp has its own random numbers.
        """
        return self.answer(prompts, generation_options(options), with_adapter=with_adapter)

    def answer(
        self, prompts: Sequence[str], options: GenerationOptions, *, with_adapter: bool = True
    ) -> list[str]:
        """As ``generate_batch``, with the options as they are."""
        rows = [self.prompt_format.ids(self.tokenizer, prompt) for prompt in prompts]
        for prompt, ids in zip(prompts, rows, strict=True):
            if not ids:
                raise SettingsError(f"the prompt {prompt!r} has no tokens to continue from")
        if not rows:
            return []
        stops = set(self.prompt_format.stops(self.tokenizer))
        server = self._server(max(map(len, rows)) + options.max_new_tokens, with_adapter)
        said = server.answer(rows, options, with_adapter=with_adapter)
        return [self.prompt_format.answer(self.tokenizer, until_stop(ids, stops)) for ids in said]

    def _server(self, tokens: int, with_adapter: bool) -> llamacpp.LlamaCpp:
        """The file that answers, loaded with room for ``tokens`` in each of its rows."""
        merged = self.is_merged and with_adapter
        if merged:
            assert self._folder is not None
            path = llama_files.merged_file(self._folder, self.base, self._dtype)
        else:
            path = llama_files.base_file(self.base, self._dtype)
        room, server = self._servers.get(path, (0, None))
        if server is None or room < tokens:
            self._servers.pop(path, None)
            room = max(SMALLEST_CONTEXT, 1 << (tokens - 1).bit_length())
            threads, _ = choose_threads(
                usable_cores(), torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
            )
            server = llamacpp.LlamaCpp(
                path,
                adapter=None if merged else self._adapter,
                context=room,
                threads=threads,
                parallel=AT_ONCE,
                exact=self._dtype == "float32",
            )
            self._servers[path] = room, server
        return server


def load(name: str, *, base: str | None = None, dtype: str = "auto") -> LlamaModel:
    """What ``name`` means (a run, any LoRA adapter, or a base model) behind llama.cpp.

    Files that llama.cpp needs and that are not there are made once and kept (``HF_HOME``).
    ``dtype`` is the base's: ``auto`` is its own GGUF file, or float32 where it is none or the
    adapter must be merged into it; with ``float32`` llama.cpp also computes in float32.
    """
    llamacpp.require()
    folder, found = find_any(name, base)
    if folder is None:
        return LlamaModel(found, load_tokenizer(found), dtype=dtype)
    tokenizer = run_tokenizer(folder, found)
    asked = run_prompt_format(folder, tokenizer)
    return LlamaModel(found, tokenizer, asked, folder=folder, dtype=dtype)


def compare_prompts(
    run: Path,
    prompts: list[str],
    options: GenerationOptions,
    *,
    base: str | None = None,
    dtype: str = "auto",
) -> Comparison:
    """Both models' answers to new prompts, through llama.cpp."""
    find_run_base(find_adapter(run, base), base)  # a base model has nothing to compare
    model = load(str(run), base=base, dtype=dtype)
    before = model.answer(prompts, options, with_adapter=False)
    after = model.answer(prompts, options)
    return compared(model.base.name, prompts, before, after)
