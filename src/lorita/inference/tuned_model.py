"""A base model with an adapter on it, or with several, ready to answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.data.tokens.prompt_format import PromptFormat
from lorita.errors import SettingsError
from lorita.inference.generation import BASE, GenerationOptions, Question, answer
from lorita.models.adapter import changes_base
from lorita.models.adapter_embeddings import fit_embeddings
from lorita.models.base import Base
from lorita.models.base_weights import load_model
from lorita.models.memory_needs import require_memory

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase
    from typing_extensions import Unpack

    from lorita.inference.options import GenerationArguments


@dataclass
class TunedModel:
    """A model ready to use: ``model`` is PEFT's, ``tokenizer`` is the one it was trained with.

    ``prompt_format`` is how its training rows put a prompt. ``adapters`` has the same for each
    adapter where several were loaded by name. ``base_biases`` are the base's own biases, in whose
    place an adapter may have trained ones. ``overwritten_by`` is the folder of an adapter that has
    put embeddings of its own in the place of the base's.
    """

    model: torch.nn.Module
    tokenizer: PreTrainedTokenizerBase
    base: Base
    prompt_format: PromptFormat = field(default_factory=PromptFormat)
    adapters: dict[str, PromptFormat] = field(default_factory=dict)
    base_biases: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)
    overwritten_by: Path | None = None

    def generate(
        self, prompt: str, *, adapter: str | None = None, **options: Unpack[GenerationArguments]
    ) -> str:
        """What the model adds to ``prompt``; options as in ``GenerationOptions``.

        A model that was trained on chats is asked through their template. With several adapters,
        ``adapter`` names the one that answers; none is the base.
        """
        return self.generate_batch([prompt], adapters=[adapter], **options)[0]

    def generate_batch(
        self,
        prompts: Sequence[str],
        *,
        adapters: Sequence[str | None] | None = None,
        **options: Unpack[GenerationArguments],
    ) -> list[str]:
        """What the model adds to each prompt, computed together.

        ``adapters`` names for each prompt the adapter that answers it; None is the base.
        """
        names = [None] * len(prompts) if adapters is None else list(adapters)
        if len(names) != len(prompts):
            raise SettingsError(f"{len(prompts)} prompts, but {len(names)} adapters")
        how = generation_options(options)
        questions = [self._question(p, name) for p, name in zip(prompts, names, strict=True)]
        return answer(self.model, self.tokenizer, questions, how)

    def answer(
        self,
        prompts: Sequence[str],
        options: GenerationOptions,
        *,
        with_adapter: bool = True,
        advance: Callable[[float], None] | None = None,
    ) -> list[str]:
        """As ``generate_batch``, with the options as they are; see ``Answers``."""
        questions = [Question(prompt, self.prompt_format) for prompt in prompts]
        with nullcontext(self.model) if with_adapter else self.bare() as model:
            return answer(model, self.tokenizer, questions, options, advance=advance)

    @contextmanager
    def bare(self) -> Iterator[torch.nn.Module]:
        """The base without its adapter, for a while."""
        model: Any = self.model
        if not hasattr(model, "peft_config"):
            yield model
            return
        changed = any(changes_base(config) for config in model.peft_config.values())
        if changed or self.overwritten_by is not None:
            # Such an adapter changed weights of the base itself when it was put on.
            require_memory(self.base, model.get_base_model().dtype.itemsize)
            base = load_model(self.base, model.get_base_model().dtype)
            if self.overwritten_by is not None:
                fit_embeddings(base, self.overwritten_by)  # the prompts may have added tokens
            yield base
            return
        places = {name: _bias(model.get_base_model(), name) for name in self.base_biases}
        trained = {name: bias.clone() for name, bias in places.items()}
        try:
            with model.disable_adapter():
                _put(places, self.base_biases)
                yield model
        finally:
            _put(places, trained)

    def _question(self, prompt: str, adapter: str | None) -> Question:
        if adapter is None:
            return Question(prompt, self.prompt_format, BASE if self.adapters else None)
        if adapter not in self.adapters:
            there = (
                f"there are {', '.join(self.adapters)}" if self.adapters else "load them by name"
            )
            raise SettingsError(f"no adapter {adapter!r}: {there}")
        return Question(prompt, self.adapters[adapter], adapter)


def generation_options(options: Mapping[str, Any]) -> GenerationOptions:
    """Options by name; ``SettingsError`` for a name that does not exist."""
    unknown = sorted(options.keys() - GenerationOptions.__dataclass_fields__.keys())
    if unknown:
        known = ", ".join(GenerationOptions.__dataclass_fields__)
        raise SettingsError(
            [f"unknown option {name!r}" for name in unknown], hint=f"There are: {known}."
        )
    chosen = GenerationOptions(**options)
    chosen.warn_of_unused()
    return chosen


def _bias(base: Any, name: str) -> torch.Tensor:
    """The parameter that the base calls ``name``; an adapter's layer may lie around its module."""
    module, _, last = name.rpartition(".")
    found = base.get_submodule(module)
    return getattr(getattr(found, "base_layer", found), last).data  # type: ignore[no-any-return]


def _put(places: Mapping[str, torch.Tensor], values: Mapping[str, torch.Tensor]) -> None:
    for name, place in places.items():
        place.copy_(values[name])
