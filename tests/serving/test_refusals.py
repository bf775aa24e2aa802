"""What is refused, with OpenAI's classes of errors, and who is let in."""

from __future__ import annotations

import http.client
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion

from lorita.serving.api_errors import NOT_DONE
from tests.serving.server import Running, running

ASKED = {"model": "base", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
KEY = "a-key-for-tests"


@pytest.fixture(scope="module")
def guarded(chat_base: Path) -> Iterator[Running]:
    with running(chat_base, key=KEY) as it:
        yield it


def raw(
    server: Running, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, Any]:
    """A request as bytes, and the answer."""
    host = server.url.removeprefix("http://").removesuffix("/v1")
    connection = http.client.HTTPConnection(host, timeout=30)
    sent = {
        "Content-Type": "application/json",
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    connection.request(method, path, body, sent)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, json.loads(text) if text.startswith(b"{") else text


@pytest.mark.parametrize(
    ("change", "said", "param"),
    [
        ({"temperature": 3}, "less than or equal to 2", "temperature"),
        ({"frobnicate": 1}, "Unrecognized request argument supplied: frobnicate", "frobnicate"),
        ({"messages": []}, "at least 1", "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "role", "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "needs a content", "messages.0"),
        (
            {"messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": "http://x"}}]}]},
            "text", None,
        ),
        ({"n": 0}, "greater than or equal to 1", "n"),
        ({"n": 1000}, "less than or equal to 16", "n"),
        ({"logit_bias": {"x": 1}}, "logit_bias", "logit_bias"),
        ({"logit_bias": {"99999999": 1}}, "logit_bias", "logit_bias"),
        ({"top_logprobs": 2}, "needs logprobs", None),
        ({"stream_options": {"include_usage": True}}, "only allowed with stream", None),
        ({"tool_choice": "required"}, "there are no tools to call", "tool_choice"),
        ({"tool_choice": "any"}, "auto, none, required", None),
        ({"tool_choice": {"type": "function"}}, "tool_choice", None),
        ({"tool_choice": {"type": "custom", "custom": {"name": "x"}}}, "tool_choice", None),
        ({"functions": []}, "send tools and tool_choice", "functions"),
        ({"function_call": "auto"}, "send tools and tool_choice", "function_call"),
        ({"reasoning_effort": "low"}, "no such setting", "reasoning_effort"),
        ({"audio": {"voice": "x"}}, "read and write text only", "audio"),
        ({"stop": ["x"] * 17}, "at most 16", "stop"),
        ({"max_tokens": 9999}, "maximum context length is 512", "messages"),
        ({"messages": [{"role": "user", "content": "x" * 2000}]}, "maximum context", "messages"),
        ({"response_format": {"type": "json_schema"}}, "needs it", "response_format"),
    ],
)  # fmt: skip
def test_bad_requests(
    server: Running, change: dict[str, Any], said: str, param: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        server.client().post("/chat/completions", body={**ASKED, **change}, cast_to=object)
    assert said in str(refused.value)
    assert refused.value.type == "invalid_request_error"
    if param is not None:
        assert refused.value.param == param


def test_what_asks_for_nothing_is_taken(server: Running) -> None:
    """Some clients send all parameters that they know, as null."""
    client, nothing = server.client(), dict.fromkeys((*NOT_DONE, "tools", "stop", "n", "seed"))
    said = client.post("/chat/completions", body={**ASKED, **nothing}, cast_to=ChatCompletion)
    coldest = client.chat.completions.create(**ASKED, temperature=1, top_p=0)  # type: ignore[call-overload]
    assert said.choices[0].message == coldest.choices[0].message


def test_each_answer_has_a_name_that_the_log_has_too(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    raw_answer = server.client().chat.completions.with_raw_response.create(**ASKED)  # type: ignore[call-overload]
    assert raw_answer.parse()._request_id == raw_answer.headers["x-request-id"]
    with pytest.raises(openai.NotFoundError) as missing:
        server.client().models.retrieve("green")
    for name in (raw_answer.request_id, missing.value.request_id):
        assert any(record.getMessage().endswith(f" {name}") for record in caplog.records)


def test_half_a_character_is_no_text(server: Running) -> None:
    for body in ({"messages": [{"role": "user", "content": "a\ud83d"}]}, {"stop": "\ud800"},
                 {"\udfff": 1}, {"model": "\ud800"}):  # fmt: skip
        sent = json.dumps({**ASKED, **body}).encode()
        for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses"):
            status, answer = raw(server, "POST", path, sent)
            assert (status, "surrogate pair" in answer["error"]["message"]) == (400, True)


def test_tools_need_a_template_that_shows_them(server: Running) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    with pytest.raises(openai.BadRequestError, match="no tool calls that can be read back"):
        server.client().chat.completions.create(**ASKED, tools=[tool])  # type: ignore[call-overload]


def test_what_is_not_there(server: Running) -> None:
    client = server.client()
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(**{**ASKED, "model": "green"})  # type: ignore[call-overload]
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError, match="no embeddings"):
        client.embeddings.create(model="base", input="x")
    with pytest.raises(openai.NotFoundError):
        client.get("/nothing", cast_to=object)
    with pytest.raises(openai.NotFoundError, match="begin with /v1/"):
        server.client(base_url=server.url.removesuffix("/v1")).models.list()
    assert raw(server, "DELETE", "/v1/models")[0] == 405


def test_bodies_that_are_no_requests(server: Running) -> None:
    for body in (b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"model": NaN}', b"1" * 10_000):
        status, answer = raw(server, "POST", "/v1/chat/completions", body)
        assert status == 400
        assert answer["error"]["type"] == "invalid_request_error"
    assert raw(server, "POST", "/v1/completions", b"x" * (9 * 2**20))[0] == 413
    plain = {"Content_Type": "text/plain"}
    assert raw(server, "POST", "/v1/completions", b"{}", **plain)[0] == 415


def test_only_this_machine_is_answered_without_a_key(server: Running) -> None:
    assert raw(server, "GET", "/v1/models", Host="evil.example")[0] == 403
    with pytest.raises(openai.PermissionDeniedError, match="on this machine only"):
        server.client(default_headers={"Host": "evil.example"}).models.list()
    with pytest.raises(openai.PermissionDeniedError, match="other sites"):
        server.client(default_headers={"Origin": "http://evil.example"}).completions.create(
            model="base", prompt="x"
        )
    assert raw(server, "GET", "/v1/models", Host="localhost:8000")[0] == 200
    status, _ = raw(server, "OPTIONS", "/v1/models", Origin="http://evil.example")
    assert status == 405


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "//v1/models"), ("GET", "/health/../v1/models"), ("GET", "/health/"),
     ("GET", "/HEALTH"), ("POST", "/v1/models"), ("GET", "/v1/nothing")],
)  # fmt: skip
def test_other_paths_need_the_key_too(guarded: Running, method: str, path: str) -> None:
    """Those of the routes: test_files.py."""
    for given in ({}, {"Authorization": "Bearer wrong-key-here"}, {"Authorization": f"Basic {KEY}"},
                  {"Authorization": KEY}, {"Authorization": f"Bearer {KEY}x"}):  # fmt: skip
        status, answer = raw(guarded, method, path, b"{}", **given)
        assert status == 401
        assert answer["error"]["code"] == "invalid_api_key"


def test_the_key_lets_in(guarded: Running) -> None:
    assert guarded.client().chat.completions.create(**ASKED)  # type: ignore[call-overload]
    assert raw(guarded, "GET", "/health")[0] == 200
    with pytest.raises(openai.AuthenticationError):
        guarded.client("another-key").models.list()


def test_metrics_and_the_log_hold_no_prompts_and_no_keys(
    guarded: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "a very secret prompt"
    messages = [{"role": "user", "content": secret}]
    guarded.client().chat.completions.create(**{**ASKED, "messages": messages})  # type: ignore[call-overload]
    with pytest.raises(openai.NotFoundError):
        guarded.client().get(f"/{KEY}?secret=prompt", cast_to=object)
    status, text = raw(guarded, "GET", "/metrics", Authorization=f"Bearer {KEY}")
    assert status == 200
    assert b'lorita_requests_total{route="/v1/chat/completions",status="200"}' in text
    assert b'lorita_tokens_total{kind="completion",model="base"}' in text
    logged = "\n".join(record.getMessage() for record in caplog.records if "lorita" in record.name)
    assert "POST /v1/chat/completions 200" in logged
    for hidden in (secret, KEY, "secret="):
        assert hidden not in logged
        assert hidden.encode() not in text
