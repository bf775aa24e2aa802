"""How an answer is to be written: what a request and the server's defaults say about its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from lorita.data.tokens.prompt_format import PromptFormat
from lorita.engine.decoding.choose import Choice
from lorita.serving.answer import Asked
from lorita.serving.api_errors import invalid
from lorita.serving.constrained import JsonGrammar, json_grammar
from lorita.serving.guides import Rules

if TYPE_CHECKING:
    from lorita.serving.registry import Registry, Served
    from lorita.serving.schema import GenerationRequest

COLDEST = 0.01
"""A lower temperature is the likeliest token: divided by it, logits would leave float32."""


@dataclass(frozen=True)
class Defaults:
    """What holds for requests that do not say: the length of answers, and their temperature."""

    max_tokens: int = 1024
    temperature: float = 0.0


def one_answer(
    registry: Registry,
    served: Served,
    form: PromptFormat,
    body: GenerationRequest,
    ids: list[int],
    most: int | None,
    defaults: Defaults,
    logprobs: int | None,
    schema: Any,
    schema_of: str = "response_format",
) -> Asked:
    """A prompt of tokens, and how it is answered; ``schema`` is that of the answer's JSON."""
    temperature = defaults.temperature if body.temperature is None else body.temperature
    penalty = body.repetition_penalty if body.repetition_penalty is not None else form.penalty
    top_k, top_p = body.top_k or 0, 1.0 if body.top_p is None else body.top_p
    sample = temperature >= COLDEST and top_p > 0  # the smallest share is the likeliest token
    choice = Choice(penalty, sample, temperature if sample else 1.0, top_k, top_p or 1.0)
    stops = frozenset(form.stops(registry.tokenizer)) | registry.own_stops
    bias = _bias(body.logit_bias, registry.words)
    parts = None
    if schema is not None:
        place = registry.tokenizer, registry.words, sorted(stops)
        parts = json_grammar(*place, schema, param=schema_of)
    rules = Rules(
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        logit_bias=bias,
        make_grammar=None if parts is None else partial(JsonGrammar, *parts, stops),
        grammar_of=schema_of,
        logprobs=logprobs,
        stops=stops,
    )
    make_guide = registry.guide_maker(rules)
    room = _room(registry.context, len(ids), most, defaults.max_tokens)
    return Asked(ids, form, served.adapter, room, stops, body.stops, choice, make_guide)


def _room(context: int | None, prompt: int, most: int | None, default: int) -> int:
    """How many tokens the answer may have. ``ApiError`` if the model has no room for them."""
    if context is None:
        return most or default
    if prompt + (most or 1) > context:
        wanted = f" and {most} for the answer" if most else ""
        raise invalid(
            f"This model's maximum context length is {context} tokens, but the request has "
            f"{prompt} in the prompt{wanted}.",
            "messages",
            "context_length_exceeded",
        )
    return most or min(default, context - prompt)


def _bias(given: Mapping[str, float] | None, words: int) -> dict[int, float]:
    bias: dict[int, float] = {}
    for text, value in (given or {}).items():
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
        if not 0 <= number < words or not -100 <= value <= 100:
            raise invalid(
                "logit_bias: should be numbers of tokens with values from -100 to 100", "logit_bias"
            )
        # 100 means always, and -100 never.
        bias[number] = value if abs(value) < 100 else value * 1e4
    return bias


def each_choice(asked: Asked, body: GenerationRequest) -> list[Asked]:
    """As many as are wanted, each drawn with a seed of its own."""
    import secrets

    first = secrets.randbits(62) if body.seed is None else body.seed % 2**62
    return [
        replace(asked, choice=replace(asked.choice, seed=first + number))
        for number in range(body.choices)
    ]
