"""``/v1/responses``: OpenAI's newer API, through its own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from tests.serving.conftest import TOOLS, save_chat_model
from tests.serving.server import Running, running

TOOL: dict[str, Any] = {
    "type": "function", "name": "look", "strict": True,
    "parameters": {"type": "object", "properties": {"hot": {"type": "boolean"}},
                   "required": ["hot"], "additionalProperties": False},
}  # fmt: skip


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("responses") / "model"
    with running(save_chat_model(folder, TOOLS, room=2048)) as it:
        yield it


def ask(running: Running, given: object, **more: Any) -> Any:
    asked = {"model": "base", "input": given, "max_output_tokens": 12, **more}
    return running.client().responses.create(**asked)


def test_the_answer_is_that_of_a_chat(serving: Running) -> None:
    chat = serving.client().chat.completions.create(
        model="base", max_tokens=12,
        messages=[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Tea"}],
    )  # fmt: skip
    parts = [{"role": "user", "content": [{"type": "input_text", "text": "Tea"}]}]
    whole = [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": "Tea"}]
    for given in ("Tea", parts):
        answer = ask(serving, given, instructions="Be kind.", metadata={"a": "b"})
        assert answer.output_text == chat.choices[0].message.content
    assert ask(serving, whole).output_text == answer.output_text
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.usage.input_tokens == chat.usage.prompt_tokens
    assert answer.usage.output_tokens == 12
    assert answer.metadata == {"a": "b"}


def test_a_conversation_goes_on(serving: Running) -> None:
    """What an answer held is sent back as it came."""
    first = ask(serving, "Tea")
    talk = [{"role": "user", "content": "Tea"}, *first.output, {"role": "user", "content": "More"}]
    chat = serving.client().chat.completions.create(
        model="base", max_tokens=12,
        messages=[{"role": "user", "content": "Tea"},
                  {"role": "assistant", "content": first.output_text},
                  {"role": "user", "content": "More"}],
    )  # fmt: skip
    assert ask(serving, talk).output_text == chat.choices[0].message.content
    with pytest.raises(openai.BadRequestError, match="send the whole conversation as input"):
        ask(serving, "More", previous_response_id=first.id)


@pytest.mark.parametrize("helper", [False, True])
def test_a_stream_is_the_whole_answer_in_pieces(serving: Running, helper: bool) -> None:
    whole = ask(serving, "Tea")
    if helper:
        with serving.client().responses.stream(
            model="base", input="Tea", max_output_tokens=12
        ) as stream:
            events = list(stream)
    else:
        events = list(ask(serving, "Tea", stream=True))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added",
        "response.content_part.added",
    ]  # fmt: skip
    assert kinds[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done",
        "response.incomplete",
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text
    assert len(deltas) > 1
    assert events[-1].response.usage == whole.usage
    assert events[-1].response.output_text == whole.output_text


def test_a_function_is_called_and_answered(serving: Running) -> None:
    choice = {"type": "function", "name": "look"}
    asked = {"tools": [TOOL], "max_output_tokens": 80}
    answer = ask(serving, "Tea", tool_choice=choice, **asked)
    assert answer.status == "completed"
    [call] = answer.output
    assert (call.type, call.name) == ("function_call", "look")
    assert isinstance(json.loads(call.arguments)["hot"], bool)
    events = list(ask(serving, "Tea", tool_choice=choice, stream=True, **asked))
    [done] = [e for e in events if e.type == "response.function_call_arguments.done"]
    assert done.arguments == call.arguments
    assert events[-1].response.output[0].arguments == call.arguments
    seen = {"type": "function_call_output", "call_id": call.call_id, "output": "It is hot."}
    talk = [{"role": "user", "content": "Tea"}, call, seen]
    assert ask(serving, talk, **asked).output


class Order(BaseModel):
    kind: Literal["tea", "bread"]
    hot: bool


def test_json_of_a_schema(serving: Running) -> None:
    answer = serving.client().responses.parse(
        model="base", input="Tea", text_format=Order, max_output_tokens=60
    )
    assert isinstance(answer.output_parsed, Order)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"input": [{"type": "reasoning", "id": "x", "summary": []}]}, "input"),
        ({"input": [{"role": "user", "content": [
            {"type": "input_image", "image_url": "http://x"}]}]}, "text"),
        ({"input": []}, "at least 1"),
        ({"input": "x" * 9000}, "maximum context"),
        ({"background": True}, "background"),
        ({"reasoning": {"effort": "low"}}, "no such setting"),
        ({"frobnicate": 1}, "Unrecognized request argument supplied: frobnicate"),
        ({"temperature": 9}, "less than or equal to 2"),
        ({"tool_choice": "required"}, "no tools to call"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "needs it"),
        ({"conversation": "conv_x"}, "keeps no answers"),
    ],
)  # fmt: skip
def test_refused(serving: Running, change: dict[str, Any], said: str) -> None:
    asked = {"model": "base", "input": "x", "max_output_tokens": 4, "reasoning": None, **change}
    for more in ({}, {"stream": True}):
        with pytest.raises(openai.BadRequestError) as refused:
            serving.client().post("/responses", body={**asked, **more}, cast_to=object)
        assert said in str(refused.value)


def test_an_error_in_a_stream_is_its_last_event(
    serving: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler, steps = serving.service.scheduler, iter(range(3))
    step = scheduler._step

    def break_down(writer: Any) -> None:
        if next(steps, None) is None:
            scheduler._broken(writer, RuntimeError("secret"), [])
        else:
            step(writer)

    monkeypatch.setattr(scheduler, "_step", break_down)
    with pytest.raises(openai.APIError, match="failed to answer") as broken:
        list(ask(serving, "Tea", stream=True))
    assert "secret" not in str(broken.value)


def test_a_model_without_a_template(runs: Path, server: Running) -> None:
    answer = server.client().responses.create(model="plain", input="I act", max_output_tokens=5)
    chat = server.client().chat.completions.create(
        model="plain", messages=[{"role": "user", "content": "I act"}], max_tokens=5
    )
    assert answer.output_text == chat.choices[0].message.content
