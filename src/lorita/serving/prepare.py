"""From a request to what the scheduler is asked: tokens of the prompt, and rules for the answer.

What a user writes never becomes a control token: it is encoded as training encodes rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lorita.data.tokens.chat_template import TemplateError
from lorita.data.tokens.prompt_format import PromptFormat
from lorita.data.tokens.rendered_chat import RenderedChat
from lorita.engine.decoding.choose import Choice
from lorita.inference.options import all_stops
from lorita.serving.answer import Asked
from lorita.serving.api_errors import invalid
from lorita.serving.constrained import JsonGrammar, json_grammar
from lorita.serving.guides import TokenGuide
from lorita.serving.schema import ChatRequest, CompletionRequest, GenerationRequest, Message
from lorita.serving.tool_calls import CallForm, call_form

if TYPE_CHECKING:
    from lorita.serving.registry import Registry, Served


COLDEST = 0.01
"""A lower temperature is the likeliest token: divided by it, logits would leave float32."""


@dataclass(frozen=True)
class Defaults:
    """What holds for requests that do not say: the length of answers, and their temperature."""

    max_tokens: int = 1024
    temperature: float = 0.0


@dataclass(frozen=True)
class Prepared:
    """The answers that a request wants, in the order of their indices, and how calls are read."""

    asked: list[Asked]
    prompt_tokens: int
    calls: CallForm | None = None
    tools: tuple[str, ...] = ()


def prepare_chat(
    registry: Registry, served: Served, body: ChatRequest, defaults: Defaults
) -> Prepared:
    """A chat up to the next answer."""
    form = served.chat
    if form is None:
        return _without_template(registry, served, body, defaults)
    messages = [_message(message, number) for number, message in enumerate(body.messages)]
    tools = _tools(body, form)
    calls = None
    assert form.template is not None
    if tools:
        calls = call_form(form.template)
        if calls is None:
            raise invalid(
                f"{served.name}: its chat template has no tool calls that can be read back", "tools"
            )
    if any(message["role"] == "system" for message in messages):
        form = replace(form, system=None)
    _require_shown(form, messages, tools, served.name)
    try:
        ids = form.chat_ids(registry.tokenizer, messages, tools)
    except TemplateError as error:
        raise invalid(str(error)[:500], "messages") from None
    most = body.max_completion_tokens or body.max_tokens
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    asked = _asked(registry, served, form, body, ids, most, defaults, logprobs, _schema(body))
    if calls is not None:
        asked = replace(asked, control_tokens=True)
    names = tuple(tool.get("function", tool).get("name", "") for tool in tools)
    return Prepared(_choices(asked, body), len(ids), calls, names)


def prepare_completion(
    registry: Registry, served: Served, body: CompletionRequest, defaults: Defaults
) -> Prepared:
    """Prompts that are continued; the answers to the first one come first."""
    asked: list[Asked] = []
    tokens = 0
    for prompt in body.prompts:
        if isinstance(prompt, str):
            ids = served.texts.ids(registry.tokenizer, prompt)
        else:
            ids = list(prompt)
            if max(ids) >= registry.words:
                raise invalid(f"prompt: there is no token {max(ids)}", "prompt")
        if not ids:
            raise invalid("prompt: it has no tokens to continue from", "prompt")
        tokens += len(ids)
        most = body.max_tokens
        one = _asked(registry, served, served.texts, body, ids, most, defaults, body.logprobs, None)
        asked += _choices(one, body)
    return Prepared(asked, tokens)


def _without_template(
    registry: Registry, served: Served, body: ChatRequest, defaults: Defaults
) -> Prepared:
    """A model without a chat template continues a single text, as ``lorita chat`` does."""
    one, *more = body.messages
    if more or one.role != "user" or body.tools:
        raise invalid(
            f"{served.name} was not trained on chats and has no chat template: send a single user "
            "message, whose text it continues, or use /v1/completions",
            "messages",
        )
    text = _message(one, 0)["content"]
    ids = served.texts.ids(registry.tokenizer, text)
    if not ids:
        raise invalid("messages: there is no text to continue", "messages")
    most = body.max_completion_tokens or body.max_tokens
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    asked = _asked(
        registry, served, served.texts, body, ids, most, defaults, logprobs, _schema(body)
    )
    return Prepared(_choices(asked, body), len(ids))


def _message(message: Message, number: int) -> dict[str, Any]:
    """A message as templates take it."""
    content = message.content
    if isinstance(content, list):
        content = "".join(part.text for part in content)
    role = "system" if message.role == "developer" else message.role
    shaped: dict[str, Any] = {"role": role, "content": content or ""}
    for key in ("name", "tool_call_id", "reasoning_content"):
        if getattr(message, key) is not None:
            shaped[key] = getattr(message, key)
    if message.tool_calls:
        shaped["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.function.name,
                    "arguments": _arguments(call.function.arguments, number),
                },
            }
            for call in message.tool_calls
        ]
    return shaped


def _arguments(text: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise invalid(
            f"messages.{number}.tool_calls: the arguments are not a JSON object", "messages"
        )
    return value


def _tools(body: ChatRequest, form: PromptFormat) -> list[Any]:
    """The tools of the request, else those that every training row had."""
    if body.tool_choice == "none":
        return []
    if body.tools is None:
        return list(form.tools)
    return [tool.model_dump(exclude_none=True) for tool in body.tools]


def _require_shown(
    form: PromptFormat, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any], name: str
) -> None:
    """``ApiError`` if the template would leave out what the request holds."""
    assert form.template is not None
    view = RenderedChat.made_of(form.template.with_tools(tools), messages, tools)
    try:
        lost = [
            place for place in view.all_lost if place.name in ("content", "tool_calls", "tools")
        ]
    except TemplateError as error:
        raise invalid(str(error)[:500], "messages") from None
    for place in lost:
        where = place.name if place.message is None else f"{place.name} of message {place.message}"
        raise invalid(
            f"{name}: its chat template leaves out the {where}",
            "tools" if place.name == "tools" else "messages",
        )


def _schema(body: ChatRequest) -> Any:
    """The JSON schema of the answer; None for any text."""
    wanted = body.response_format
    if wanted is None or wanted.type == "text":
        return None
    return {"type": "object"} if wanted.json_schema is None else wanted.json_schema.schema_


def _asked(
    registry: Registry,
    served: Served,
    form: PromptFormat,
    body: GenerationRequest,
    ids: list[int],
    most: int | None,
    defaults: Defaults,
    logprobs: int | None,
    schema: Any,
) -> Asked:
    temperature = defaults.temperature if body.temperature is None else body.temperature
    penalty = body.repetition_penalty if body.repetition_penalty is not None else form.penalty
    sample = temperature >= COLDEST
    top_k, top_p = body.top_k or 0, body.top_p or 1.0
    choice = Choice(penalty, sample, temperature if sample else 1.0, top_k, top_p)
    stops = all_stops(registry.model, form.stops(registry.tokenizer))
    bias = _bias(body.logit_bias, registry.words)
    parts = None
    if schema is not None:
        parts = json_grammar(registry.tokenizer, registry.words, sorted(stops), schema)
    plain = not (bias or body.presence_penalty or body.frequency_penalty)

    def make_guide() -> TokenGuide | None:
        if plain and parts is None and logprobs is None:
            return None
        return TokenGuide(
            presence_penalty=body.presence_penalty or 0.0,
            frequency_penalty=body.frequency_penalty or 0.0,
            logit_bias=bias,
            grammar=None if parts is None else JsonGrammar(*parts, stops),
            logprobs=logprobs,
            stops=stops,
        )

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


def _choices(asked: Asked, body: GenerationRequest) -> list[Asked]:
    """As many as are wanted, each drawn with a seed of its own."""
    import secrets

    first = secrets.randbits(62) if body.seed is None else body.seed % 2**62
    return [
        replace(asked, choice=replace(asked.choice, seed=first + number))
        for number in range(body.choices)
    ]
