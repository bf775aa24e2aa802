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
from lorita.serving.answer import Asked
from lorita.serving.api_errors import invalid
from lorita.serving.forced_calls import forced_call
from lorita.serving.rules import Defaults, each_choice, one_answer
from lorita.serving.schema import ChatRequest, CompletionRequest, Message
from lorita.serving.tool_calls import CallForm, call_form

if TYPE_CHECKING:
    from lorita.serving.registry import Registry, Served


@dataclass(frozen=True)
class Prepared:
    """The answers that a request wants, in the order of their indices, and how calls are read."""

    asked: list[Asked]
    prompt_tokens: int
    calls: CallForm | None = None
    tools: tuple[str, ...] = ()
    is_call: bool = False
    """Whether the prompt ends with the beginning of a call."""


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
    schema = (_schema(body), "response_format")
    names = tuple(tool.get("function", tool).get("name", "") for tool in tools)
    if (forced := forced_call(body, form.template, tools)) is not None:
        ids, names = [*ids, *forced.ids(registry.tokenizer)], forced.names
        schema = (forced.schema, "tool_choice")
    asked = one_answer(registry, served, form, body, ids, most, defaults, logprobs, *schema)
    if calls is not None:
        asked = replace(asked, control_tokens=True)
    return Prepared(each_choice(asked, body), len(ids), calls, names, forced is not None)


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
        one = one_answer(
            registry, served, served.texts, body, ids, most, defaults, body.logprobs, None
        )
        asked += each_choice(one, body)
    return Prepared(asked, tokens)


def _without_template(
    registry: Registry, served: Served, body: ChatRequest, defaults: Defaults
) -> Prepared:
    """A model without a chat template continues a single text, as ``lorita chat`` does."""
    one, *more = body.messages
    if body.wanted_tool is not None or body.tool_choice == "required":
        raise invalid(f"tool_choice: {served.name} knows no tool calls", "tool_choice")
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
    asked = one_answer(
        registry, served, served.texts, body, ids, most, defaults, logprobs, _schema(body)
    )
    return Prepared(each_choice(asked, body), len(ids))


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
