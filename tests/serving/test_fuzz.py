"""Whatever a request holds, the server answers it or says what is wrong: never 500."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving.server import Asking, Running

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 40), st.integers(), st.floats(0, 2), st.floats(),
    st.text(max_size=12), st.sampled_from(["base", "red", "plain", "user", "auto", "<eos>", "\0"]),
)  # fmt: skip
ANY = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "x"]),
            "content": st.one_of(st.text(max_size=30), ANY),
        },
        optional={
            "name": SCALARS,
            "tool_calls": st.one_of(ANY, st.just([{
                "id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}])),
            "tool_call_id": SCALARS,
            "reasoning_content": SCALARS,
        },
    ),
    max_size=4,
)  # fmt: skip
SCHEMAS = st.one_of(
    ANY,
    st.fixed_dictionaries(
        {"type": st.sampled_from(["object", "array", "string", "integer", "x"])},
        optional={
            "properties": st.dictionaries(st.text(max_size=4), ANY, max_size=2),
            "items": ANY, "enum": st.lists(SCALARS, max_size=3), "pattern": st.text(max_size=8),
            "minimum": SCALARS, "maxLength": SCALARS, "required": ANY, "$ref": SCALARS,
        },
    ),
)  # fmt: skip
SHARED = {
    "temperature": st.one_of(SCALARS, st.floats(0, 2)), "top_p": SCALARS, "top_k": SCALARS,
    "seed": SCALARS, "n": st.one_of(st.integers(1, 3), SCALARS), "stop": ANY,
    "presence_penalty": SCALARS, "frequency_penalty": SCALARS, "repetition_penalty": SCALARS,
    "logit_bias": st.one_of(
        ANY, st.dictionaries(st.integers(0, 300).map(str), st.floats(-100, 100), max_size=2)
    ),
    "stream": st.booleans(), "stream_options": ANY, "logprobs": SCALARS, "user": ANY, "odd": ANY,
}  # fmt: skip
CHATS = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["base", "red", "plain", "nope"]), "messages": MESSAGES,
        "max_tokens": st.one_of(st.integers(1, 6), SCALARS),
    },
    optional={
        **SHARED, "top_logprobs": SCALARS, "tools": ANY, "tool_choice": ANY,
        "max_completion_tokens": st.integers(1, 6),
        "response_format": st.one_of(
            ANY,
            st.fixed_dictionaries({"type": st.sampled_from(["json_object", "text"])}),
            SCHEMAS.map(
                lambda s: {"type": "json_schema", "json_schema": {"name": "x", "schema": s}}
            ),
        ),
    },
)  # fmt: skip
PROMPTS = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["base", "red", "plain"]),
        "prompt": st.one_of(
            st.text(max_size=20), st.lists(st.integers(-1, 300), max_size=5),
            st.lists(st.text(max_size=5), max_size=3), ANY,
        ),
        "max_tokens": st.one_of(st.integers(1, 6), SCALARS),
    },
    optional={**SHARED, "echo": SCALARS, "best_of": SCALARS, "suffix": SCALARS},
)  # fmt: skip
ITEMS = st.one_of(
    st.text(max_size=20), ANY,
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "type": st.sampled_from(["message", "function_call", "function_call_output", "x"]),
                "role": st.sampled_from(["user", "assistant", "developer", "tool"]),
                "content": st.one_of(st.text(max_size=9), ANY), "call_id": SCALARS,
                "name": SCALARS, "arguments": st.one_of(st.just("{}"), SCALARS), "output": ANY,
            },
        ),
        max_size=4,
    ),
)  # fmt: skip
RESPONSES = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["base", "red", "plain", "nope"]), "input": ITEMS,
        "max_output_tokens": st.one_of(st.integers(1, 6), SCALARS),
    },
    optional={
        "temperature": SCALARS, "top_p": SCALARS, "stream": st.booleans(), "instructions": SCALARS,
        "tools": ANY, "tool_choice": ANY, "metadata": ANY, "odd": ANY, "text": st.one_of(
            ANY, SCHEMAS.map(lambda s: {"format": {"type": "json_schema", "schema": s}})),
    },
)  # fmt: skip
RAW = st.one_of(st.binary(max_size=60), ANY.map(lambda value: json.dumps(value).encode()))
BODIES = st.one_of(
    st.tuples(st.just("/v1/chat/completions"), CHATS.map(lambda v: json.dumps(v).encode())),
    st.tuples(st.just("/v1/completions"), PROMPTS.map(lambda v: json.dumps(v).encode())),
    st.tuples(st.just("/v1/responses"), RESPONSES.map(lambda v: json.dumps(v).encode())),
    st.tuples(st.sampled_from(["/v1/chat/completions", "/v1/completions", "/v1/models"]), RAW),
)
STATUSES = {200, 400, 404, 405, 413, 415}


@pytest.mark.parametrize("examples", [120, pytest.param(5000, marks=pytest.mark.slow)])
def test_no_request_breaks_the_server(server: Running, examples: int) -> None:
    asking = Asking(server)

    @settings(max_examples=examples, deadline=None, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(BODIES)
    def asked(request: tuple[str, bytes]) -> None:
        status, answer = asking.ask("POST", *request)
        assert status in STATUSES, (request, answer)
        assert b"Traceback" not in answer
        if status != 200:
            error: dict[str, Any] = json.loads(answer)["error"]
            assert set(error) == {"message", "type", "param", "code"}
        else:
            assert b'"server_error"' not in answer, (request, answer)

    asked()
    assert server.client().models.list()
    server.until(lambda: server.service.scheduler.running == 0)
