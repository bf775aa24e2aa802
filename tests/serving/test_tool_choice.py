"""``tool_choice``: calls that have to come, with arguments that fit the tool's own schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import openai
import pytest
from pydantic import BaseModel, Field

from lorita.data.tokens.chat_template import ChatTemplate
from lorita.serving.api_errors import ApiError
from lorita.serving.forced_calls import forced_call
from lorita.serving.schema import ChatRequest
from tests.serving.conftest import TOOLS, save_chat_model
from tests.serving.server import Running, running
from tests.serving.test_tool_calls import LLAMA, MISTRAL


class Place(BaseModel, extra="forbid"):
    town: Annotated[str, Field(max_length=4)]


class Order(BaseModel, extra="forbid"):
    """Its schema has a part that is named, and referred to from its root."""

    kind: Literal["tea", "bread"]
    count: Annotated[int, Field(ge=1, le=9)]
    to: Place


class Look(BaseModel, extra="forbid"):
    hot: bool


class Nothing(BaseModel, extra="forbid"):
    pass


ARGUMENTS: dict[str, type[BaseModel]] = {"order": Order, "look": Look, "stop": Nothing}


def tools(*names: str) -> list[dict[str, Any]]:
    functions: dict[str, dict[str, Any]] = {
        name: {"name": name, "parameters": ARGUMENTS[name].model_json_schema()} for name in names
    }
    if "stop" in functions:
        del functions["stop"]["parameters"]  # OpenAI's way of saying that there are none
    return [{"type": "function", "function": functions[name]} for name in names]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("tools") / "model"
    with running(save_chat_model(folder, TOOLS, room=2048)) as it:
        yield it


def ask(running: Running, choice: object, *names: str, **more: Any) -> Any:
    return running.client().chat.completions.create(
        model="base", messages=[{"role": "user", "content": "Tea, please."}], tools=tools(*names),
        tool_choice=choice, **{"max_tokens": 120, **more},
    )  # fmt: skip


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_named_function(server: Running, name: str) -> None:
    (choice,) = ask(server, named(name), *ARGUMENTS).choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls
    assert call.function.name == name
    ARGUMENTS[name].model_validate_json(call.function.arguments)


@pytest.mark.parametrize("template", [LLAMA, MISTRAL])
def test_other_forms_of_calls(template: str, tmp_path: Path) -> None:
    with running(save_chat_model(tmp_path / "model", template, room=1024)) as it:
        (choice,) = ask(it, named("look"), "look", max_tokens=60).choices
    (call,) = choice.message.tool_calls
    Look.model_validate_json(call.function.arguments)


def test_arguments_that_are_a_text_cannot_be_demanded() -> None:
    quoted = TOOLS.replace("c['function']['arguments']}", "c['function']['arguments'] | tojson}")
    body = ChatRequest.model_validate(
        {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "tool_choice": "required"}
    )
    with pytest.raises(ApiError, match="cannot be demanded"):
        forced_call(body, ChatTemplate("own", quoted, {"eos_token": "<eos>"}), tools("look"))


def test_any_function(server: Running) -> None:
    """Drawn at random, so that each tool has its turn."""
    found = set()
    answer = ask(server, "required", "look", "stop", temperature=1.0, seed=1, n=8, max_tokens=60)
    for choice in answer.choices:
        if choice.finish_reason == "tool_calls":
            (call,) = choice.message.tool_calls
            found.add(call.function.name)
            ARGUMENTS[call.function.name].model_validate_json(call.function.arguments)
    assert len(found) > 1


def test_a_streamed_call_is_the_same(server: Running) -> None:
    whole = ask(server, named("order"), "order").choices[0].message.tool_calls[0].function
    deltas = [chunk.choices[0] for chunk in ask(server, named("order"), "order", stream=True)]
    calls = [call for delta in deltas for call in delta.delta.tool_calls or []]
    assert [(call.function.name, call.function.arguments) for call in calls] == [
        (whole.name, whole.arguments)
    ]
    assert not any(delta.delta.content for delta in deltas)
    assert deltas[-1].finish_reason == "tool_calls"


def test_a_call_that_is_cut_off_is_none(server: Running) -> None:
    (choice,) = ask(server, named("order"), "order", max_tokens=5).choices
    assert choice.finish_reason == "length"
    assert not choice.message.tool_calls


@pytest.mark.parametrize(
    ("choice", "names", "said"),
    [
        (named("fly"), ["look"], "there is no tool fly. There are: look"),
        ("required", [], "no tools to call"),
        ("any", ["look"], "auto, none, required"),
    ],
)
def test_refused(server: Running, choice: object, names: list[str], said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=said):
        ask(server, choice, *names)


def test_parameters_that_are_no_object(server: Running) -> None:
    tool = {"type": "function", "function": {"name": "x", "parameters": {"type": "string"}}}
    with pytest.raises(openai.BadRequestError, match="not of the type object"):
        server.client().chat.completions.create(
            model="base", messages=[{"role": "user", "content": "Hi"}], tools=[tool],
            tool_choice="required",
        )  # type: ignore[call-overload]  # fmt: skip
