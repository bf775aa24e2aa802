"""How a model generates text: transformers' options, with lorita's defaults."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict

from lorita.errors import LoritaWarning, SettingsError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lorita.data.tokens.prompt_format import PromptFormat


@dataclass(frozen=True)
class GenerationOptions:
    """Options under transformers' names. Without ``do_sample``, decoding is greedy.

    A ``repetition_penalty`` of None is that of the prompt format (``PromptFormat.penalty``).
    Raises ``SettingsError`` that lists every value out of range.
    """

    max_new_tokens: int = 100
    repetition_penalty: float | None = None
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    seed: int = 42

    def __post_init__(self) -> None:
        problems = [
            f"{name} = {getattr(self, name)}: should be {rule}"
            for name, holds, rule in (
                ("max_new_tokens", self.max_new_tokens >= 1, "1 or more"),
                ("repetition_penalty", self.penalty > 0, "greater than 0"),
                ("temperature", self.temperature > 0, "greater than 0"),
                ("top_k", self.top_k >= 0, "0 (off) or more"),
                ("top_p", 0 < self.top_p <= 1, "greater than 0, at most 1"),
            )
            if not holds
        ]
        if problems:
            raise SettingsError(problems)

    @property
    def penalty(self) -> float:
        """The repetition penalty; 1, which is none, as long as it is left to the prompt format."""
        return 1.0 if self.repetition_penalty is None else self.repetition_penalty

    def for_prompts(self, prompt_format: PromptFormat) -> GenerationOptions:
        """The same, with the repetition penalty of the prompt format if none was given."""
        if self.repetition_penalty is not None:
            return self
        return replace(self, repetition_penalty=prompt_format.penalty)

    def warn_of_unused(self) -> None:
        """A ``LoritaWarning`` for what only matters with ``do_sample``."""
        unused = [
            name
            for name in ("temperature", "top_k", "top_p", "seed")
            if not self.do_sample and getattr(self, name) != getattr(type(self), name)
        ]
        if unused:
            verb = "does" if len(unused) == 1 else "do"
            warnings.warn(
                f"without do_sample, {' and '.join(unused)} {verb} nothing: the most likely token "
                "is always taken. Add --do-sample (in Python: do_sample=True)",
                LoritaWarning,
                stacklevel=3,
            )


class GenerationArguments(TypedDict, total=False):
    """``GenerationOptions`` as arguments of Python calls, for type checkers and editors."""

    max_new_tokens: int
    repetition_penalty: float | None
    do_sample: bool
    temperature: float
    top_k: int
    top_p: float
    seed: int


def all_stops(model: Any, stop_ids: Sequence[int]) -> frozenset[int]:
    """The tokens that end an answer: ``stop_ids`` and the model's own end-of-text tokens."""
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return frozenset(stop_ids) | frozenset(
        own if isinstance(own, list) else [own] if own is not None else []
    )


def transformers_options(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    options: GenerationOptions,
    stop_ids: Sequence[int],
) -> Any:
    """A ``GenerationConfig`` that sets everything, so that no default of the model applies.

    The answer ends at any of ``stop_ids`` or of the model's own end-of-text tokens. The repetition
    penalty is left at 1: the caller applies it, because transformers' penalises padding, too.
    """
    from transformers import GenerationConfig

    sampling: dict[str, Any] = {}
    if options.do_sample:
        sampling = {
            "temperature": options.temperature,
            "top_k": options.top_k,
            "top_p": options.top_p,
        }
    return GenerationConfig(
        max_new_tokens=options.max_new_tokens,
        repetition_penalty=1.0,
        do_sample=options.do_sample,
        eos_token_id=sorted(all_stops(model, stop_ids)),
        pad_token_id=tokenizer.eos_token_id,
        use_cache=True,
        **sampling,
    )
