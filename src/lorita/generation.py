"""Text from a model: greedy by default, with the article's repetition penalty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorita.data.prompting import PromptFormat
from lorita.errors import SettingsError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class GenerationOptions:
    """Options under transformers' names. Without ``do_sample`` the likeliest token is taken."""

    max_new_tokens: int = 100
    repetition_penalty: float = 1.5
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
                ("repetition_penalty", self.repetition_penalty > 0, "greater than 0"),
                ("temperature", self.temperature > 0, "greater than 0"),
                ("top_k", self.top_k >= 0, "0 (off) or more"),
                ("top_p", 0 < self.top_p <= 1, "between 0 and 1"),
            )
            if not holds
        ]
        if problems:
            raise SettingsError(problems)


def generate(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    options: GenerationOptions | None = None,
    prompt_format: PromptFormat | None = None,
) -> list[str]:
    """What ``model`` adds to each prompt, up to the end-of-text token or ``max_new_tokens``.

    With the ``prompt_format`` of a chat, each prompt is one question, put through the template,
    and the end of the turn ends the answer. Prompts are computed one by one, so that an answer
    does not depend on its neighbours.
    """
    import torch

    options = options or GenerationOptions()
    asked = prompt_format or PromptFormat()
    settings = _transformers_options(model, tokenizer, options, asked.stops(tokenizer))
    device = next(model.parameters()).device
    answers = []
    was_training = model.training
    model.eval()
    if options.do_sample:
        torch.manual_seed(options.seed)
    try:
        for prompt in prompts:
            ids = asked.ids(tokenizer, prompt)
            if not ids:
                raise SettingsError(f"the prompt {prompt!r} has no tokens to continue from")
            ids_1L = torch.tensor([ids], device=device)
            with torch.inference_mode():
                output_1L = model.generate(  # type: ignore[operator]
                    input_ids=ids_1L, attention_mask=torch.ones_like(ids_1L), **settings
                )
            answers.append(asked.answer(tokenizer, output_1L[0, len(ids) :].tolist()))
    finally:
        model.train(was_training)
    return answers


def _transformers_options(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    options: GenerationOptions,
    stop_ids: Sequence[int],
) -> dict[str, Any]:
    """Everything that steers ``generate``, so that nothing comes from the model's own defaults."""
    from transformers import GenerationConfig

    stops = set(stop_ids)
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    stops |= set(own if isinstance(own, list) else [own] if own is not None else [])
    sampling: dict[str, Any] = {}
    if options.do_sample:
        sampling = {
            "temperature": options.temperature,
            "top_k": options.top_k,
            "top_p": options.top_p,
        }
    config = GenerationConfig(
        max_new_tokens=options.max_new_tokens,
        repetition_penalty=options.repetition_penalty,
        do_sample=options.do_sample,
        eos_token_id=sorted(stops),
        pad_token_id=tokenizer.eos_token_id,
        **sampling,
    )
    return {"generation_config": config}
