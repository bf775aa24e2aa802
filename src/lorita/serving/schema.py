"""What requests may hold: OpenAI's parameters, by their names.

What has no meaning here is in ``IGNORED`` and does nothing; whatever else is not listed is refused,
as OpenAI refuses it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lorita.serving.api_errors import NOT_DONE

MOST_MESSAGES = 2048
MOST_CHOICES = 16
MOST_TOOLS = 128
MOST_STOPS = 16
MOST_PROMPTS = 64
MOST_CHARACTERS = 2_000_000
TOOL_WORDS = ("auto", "none", "required")
IGNORED = (
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention", "parallel_tool_calls",
)  # fmt: skip
"""Known to OpenAI, without a meaning here."""
Text = Annotated[str, Field(max_length=MOST_CHARACTERS)]
TokenId = Annotated[int, Field(ge=0, strict=True)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


def without_nulls(given: Any) -> Any:
    """A request without those of ``NOT_DONE`` that it has as null."""
    if not isinstance(given, dict):
        return given
    return {key: given[key] for key in given if key not in NOT_DONE or given[key] is not None}


class TextPart(_Strict):
    """A part of a message; there are only texts."""

    type: Literal["text"]
    text: Text


class FunctionCall(_Strict):
    """What an earlier answer called; the arguments are JSON in a text."""

    name: Annotated[str, Field(max_length=256)]
    arguments: Text


class ToolCall(_Strict):
    """A call in an earlier answer."""

    id: Annotated[str, Field(max_length=256)]
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(_Strict):
    """A message of a chat. ``developer`` is OpenAI's newer name for ``system``."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[TextPart], Field(max_length=MOST_MESSAGES)] | None = None
    name: Annotated[str, Field(max_length=256)] | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MOST_TOOLS)] | None = None
    tool_call_id: Annotated[str, Field(max_length=256)] | None = None
    reasoning_content: Text | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None

    @model_validator(mode="after")
    def _has_what_its_role_needs(self) -> Message:
        if self.content is None and not (self.role == "assistant" and self.tool_calls):
            raise ValueError(f"a message of the role {self.role} needs a content")
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only messages of the assistant have tool_calls")
        return self


class Function(_Strict):
    """A function that the model may call."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(_Strict):
    """A tool: always a function."""

    type: Literal["function"]
    function: Function


class NamedFunction(_Strict):
    """The name of a function."""

    name: Annotated[str, Field(max_length=256)]


class NamedTool(_Strict):
    """A tool that has to be called."""

    type: Literal["function"]
    function: NamedFunction


class StreamOptions(_Strict):
    """What a stream holds beside the answer."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class JsonSchema(_Strict):
    """A JSON schema that the answer is to follow."""

    name: Annotated[str, Field(max_length=64)]
    schema_: dict[str, Any] = Field(alias="schema")
    description: Text | None = None
    strict: bool | None = None


class ResponseFormat(_Strict):
    """What the answer has to be: text, a JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema belongs to the type json_schema, which needs it")
        return self


class GenerationRequest(_Strict):
    """What both kinds of request have. Defaults are the server's where they are None.

    ``top_k`` and ``repetition_penalty`` are not OpenAI's; other servers have them, too.
    """

    model: Annotated[str, Field(min_length=1, max_length=512)]
    max_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=2**31)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.1, le=10)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=1024)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    stop: (
        Annotated[str, Field(max_length=1024)]
        | Annotated[list[Annotated[str, Field(max_length=1024)]], Field(max_length=MOST_STOPS)]
        | None
    ) = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Any = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    parallel_tool_calls: Any = None

    @model_validator(mode="before")
    @classmethod
    def _nulls_ask_for_nothing(cls, given: Any) -> Any:
        return without_nulls(given)

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end an answer."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(text for text in given if text)

    @property
    def choices(self) -> int:
        """How many answers are wanted to each prompt."""
        return self.n or 1

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the counts of tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @model_validator(mode="after")
    def _options_of_a_stream(self) -> GenerationRequest:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options are only allowed with stream")
        return self


class ChatRequest(GenerationRequest):
    """The body of ``/v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: NamedTool | str | dict[str, Any] | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> ChatRequest:
        if (
            not isinstance(self.tool_choice, NamedTool | None)
            and self.tool_choice not in TOOL_WORDS
        ):
            raise ValueError(
                'tool_choice: should be auto, none, required, or {"type": "function", "function": '
                '{"name": ...}}'
            )
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        return self

    @property
    def wanted_tool(self) -> str | None:
        """The name of the tool that has to be called."""
        return self.tool_choice.function.name if isinstance(self.tool_choice, NamedTool) else None


class CompletionRequest(GenerationRequest):
    """The body of ``/v1/completions``. Prompts may be tokens, which are then taken as they are."""

    prompt: (
        Text
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[Text], Field(min_length=1, max_length=MOST_PROMPTS)]
        | Annotated[
            list[Annotated[list[TokenId], Field(min_length=1)]],
            Field(min_length=1, max_length=MOST_PROMPTS),
        ]
    )
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: bool | None = None
    best_of: int | None = None
    suffix: None = None

    @model_validator(mode="after")
    def _only_what_is_done(self) -> CompletionRequest:
        if self.best_of not in (None, self.choices):
            raise ValueError("best_of: this server does not choose; give n alone")
        if self.echo and self.logprobs is not None:
            raise ValueError("echo: the probabilities of a prompt are not computed")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each prompt, a text or tokens."""
        given: Any = self.prompt
        if isinstance(given, str) or (given and isinstance(given[0], int)):
            return [given]
        return list(given)
