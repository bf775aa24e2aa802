"""What requests to ``/v1/responses`` may hold, and the chat that each of them stands for.

Nothing is kept between two requests: a conversation is sent whole.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lorita.serving.api_errors import from_validation
from lorita.serving.schema import (
    MOST_MESSAGES,
    MOST_TOOLS,
    ChatRequest,
    Text,
    without_nulls,
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class TextPart(_Strict):
    """A text in a message: a user's (``input_text``) or an earlier answer's (``output_text``)."""

    type: Literal["input_text", "output_text", "text"]
    text: Text
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    logprobs: Any = None


class _Item(_Strict):
    """Clients send back what an earlier answer held, with its id and state."""

    id: Any = None
    status: Any = None


class MessageItem(_Item):
    """A message of the conversation."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[TextPart], Field(max_length=MOST_MESSAGES)]
    phase: Any = None

    def add_to(self, chat: list[dict[str, Any]]) -> None:
        """Append the message."""
        text = self.content
        if not isinstance(text, str):
            text = "".join(part.text for part in text)
        chat.append({"role": self.role, "content": text})


class CallItem(_Item):
    """A call that an earlier answer made."""

    type: Literal["function_call"]
    call_id: Annotated[str, Field(max_length=256)]
    name: Annotated[str, Field(max_length=256)]
    arguments: Text
    namespace: None = None
    caller: None = None
    async_: Literal[False] | None = Field(None, alias="async")

    def add_to(self, chat: list[dict[str, Any]]) -> None:
        """Append the call to the answer before it, of which it is a part."""
        if not chat or chat[-1]["role"] != "assistant":
            chat.append({"role": "assistant", "content": None})
        function = {"name": self.name, "arguments": self.arguments}
        calls = chat[-1].setdefault("tool_calls", [])
        calls.append({"id": self.call_id, "type": "function", "function": function})


class OutputItem(_Item):
    """What a called function has returned."""

    type: Literal["function_call_output"]
    call_id: Annotated[str, Field(max_length=256)]
    output: Text | Annotated[list[TextPart], Field(max_length=MOST_MESSAGES)]

    def add_to(self, chat: list[dict[str, Any]]) -> None:
        """Append it as a tool's message."""
        text = self.output
        if not isinstance(text, str):
            text = "".join(part.text for part in text)
        chat.append({"role": "tool", "tool_call_id": self.call_id, "content": text})


class Tool(_Strict):
    """A function that the model may call."""

    type: Literal["function"]
    name: str
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedTool(_Strict):
    """A tool that has to be called."""

    type: Literal["function"]
    name: str


class Format(_Strict):
    """What the answer has to be."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    description: str | None = None
    strict: bool | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Format:
        if (self.type == "json_schema") != (self.schema_ is not None):
            raise ValueError("schema belongs to the type json_schema, which needs it")
        return self


class TextOptions(_Strict):
    """How the answer is to be written."""

    format: Format | None = None


class ResponseRequest(_Strict):
    """The body of ``POST /v1/responses``."""

    model: Annotated[str, Field(min_length=1, max_length=512)]
    input: (
        Text
        | Annotated[
            list[CallItem | OutputItem | MessageItem], Field(min_length=1, max_length=MOST_MESSAGES)
        ]
    )
    instructions: Text | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stream: bool | None = None
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: NamedTool | Literal["auto", "none", "required"] | None = None
    text: TextOptions | None = None
    store: Any = None
    metadata: Any = None
    user: Any = None
    parallel_tool_calls: bool | None = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    truncation: Literal["disabled"] | None = None
    background: Literal[False] | None = None
    include: Annotated[list[Any], Field(max_length=0)] | None = None
    previous_response_id: None = None
    conversation: None = None

    @model_validator(mode="before")
    @classmethod
    def _keeps_nothing(cls, given: Any) -> Any:
        given = without_nulls(given)
        for name in ("previous_response_id", "conversation"):
            if isinstance(given, dict) and given.get(name) is not None:
                raise ValueError(
                    f"{name}: this server keeps no answers; send the whole conversation as input"
                )
        return given

    def chat(self) -> ChatRequest:
        """The same as a chat. ``ApiError`` if it cannot be one."""
        chat: list[dict[str, Any]] = []
        if self.instructions is not None:
            chat.append({"role": "system", "content": self.instructions})
        if isinstance(self.input, str):
            chat.append({"role": "user", "content": self.input})
        else:
            for item in self.input:
                item.add_to(chat)
        asked: dict[str, Any] = {
            "model": self.model, "messages": chat, "max_tokens": self.max_output_tokens,
            "temperature": self.temperature, "top_p": self.top_p, "stream": self.stream,
        }  # fmt: skip
        if self.tools is not None:
            asked["tools"] = [
                {"type": "function", "function": tool.model_dump(exclude={"type"})}
                for tool in self.tools
            ]
        asked["tool_choice"] = self.tool_choice
        if isinstance(self.tool_choice, NamedTool):
            asked["tool_choice"] = {"type": "function", "function": {"name": self.tool_choice.name}}
        if self.text is not None and (form := self.text.format) is not None:
            asked["response_format"] = {"type": form.type}
            if form.schema_ is not None:
                schema = {"name": form.name or "answer", "schema": form.schema_}
                asked["response_format"]["json_schema"] = schema
        try:
            return ChatRequest.model_validate(asked)
        except ValidationError as error:
            raise from_validation(error) from None
