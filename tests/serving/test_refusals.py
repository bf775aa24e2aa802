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
        ({"functions": []}, "Unrecognized", "functions"),
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
    assert raw(server, "GET", "/v1/models", Host="localhost:8000")[0] == 200
    status, _ = raw(server, "OPTIONS", "/v1/models", Origin="http://evil.example")
    assert status == 405


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"), ("GET", "/v1/models/base"), ("GET", "/metrics"), ("GET", "/"),
        ("POST", "/v1/chat/completions"), ("POST", "/v1/completions"), ("POST", "/v1/embeddings"),
        ("POST", "/v1/files"), ("GET", "/v1/files"), ("GET", "/v1/files/x/content"),
        ("POST", "/v1/fine_tuning/jobs"), ("GET", "/v1/fine_tuning/jobs/x/events"),
        ("DELETE", "/v1/files/x"), ("GET", "//v1/models"), ("GET", "/health/../v1/models"),
    ],
)  # fmt: skip
def test_every_path_needs_the_key(guarded: Running, method: str, path: str) -> None:
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
