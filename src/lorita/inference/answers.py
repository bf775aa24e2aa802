"""What answers prompts: the one thing that every engine's model can do.

``TunedModel`` (transformers) and ``LlamaModel`` (llama.cpp) both satisfy it, so that a command
does not ask which of them it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lorita.data.tokens.prompt_format import PromptFormat
    from lorita.inference.generation import GenerationOptions
    from lorita.models.base import Base


class Answers(Protocol):
    """A base model, with an adapter or without, that is ready to answer."""

    base: Base
    tokenizer: PreTrainedTokenizerBase
    prompt_format: PromptFormat

    def answer(
        self,
        prompts: Sequence[str],
        options: GenerationOptions,
        *,
        with_adapter: bool = True,
        advance: Callable[[float], None] | None = None,
    ) -> list[str]:
        """What the model adds to each prompt; ``with_adapter=False`` is the bare base's answer.

        ``advance`` is told how many more answers are done, parts of one included.
        """
        ...
