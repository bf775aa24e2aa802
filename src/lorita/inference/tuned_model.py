"""A base model with an adapter on it, or with several, ready to answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lorita.data.tokens.prompt_format import PromptFormat
from lorita.errors import SettingsError
from lorita.inference.generation import BASE, GenerationOptions, Question, answer
from lorita.models.base import Base

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass
class TunedModel:
    """A model ready to use: ``model`` is PEFT's, ``tokenizer`` is the one it was trained with.

    ``prompt_format`` is how its training rows put a prompt. ``adapters`` has the same for each
    adapter where several were loaded by name.
    """

    model: torch.nn.Module
    tokenizer: PreTrainedTokenizerBase
    base: Base
    prompt_format: PromptFormat = field(default_factory=PromptFormat)
    adapters: dict[str, PromptFormat] = field(default_factory=dict)

    def generate(self, prompt: str, *, adapter: str | None = None, **options: Any) -> str:
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
        **options: Any,
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

    def _question(self, prompt: str, adapter: str | None) -> Question:
        if adapter is None:
            return Question(prompt, self.prompt_format, BASE if self.adapters else None)
        if adapter not in self.adapters:
            there = (
                f"there are {', '.join(self.adapters)}" if self.adapters else "load them by name"
            )
            raise SettingsError(f"no adapter {adapter!r}: {there}")
        return Question(prompt, self.adapters[adapter], adapter)


def generation_options(options: dict[str, Any]) -> GenerationOptions:
    """Options by name; ``SettingsError`` for a name that does not exist."""
    unknown = sorted(options.keys() - GenerationOptions.__dataclass_fields__.keys())
    if unknown:
        known = ", ".join(GenerationOptions.__dataclass_fields__)
        raise SettingsError(
            [f"unknown option {name!r}" for name in unknown], hint=f"There are: {known}."
        )
    return GenerationOptions(**options)
