"""What the server answers to OpenAI's own client."""

from __future__ import annotations

import json
from pathlib import Path

import openai
import pytest

import lorita
from tests import tiny
from tests.serving.server import Running

QUESTION = [{"role": "user", "content": "I act as a cook."}]


@pytest.fixture(scope="module")
def loaded(runs: Path) -> dict[str, lorita.TunedModel]:
    return {name: lorita.load(runs / name, dtype="float32") for name in ("red", "blue", "plain")}


def ask(client: openai.OpenAI, model: str, content: str = "I act as a cook.", **more: object):
    asked = [{"role": "user", "content": content}]
    return client.chat.completions.create(model=model, messages=asked, **more)


def test_models(server: Running) -> None:
    client = server.client()
    assert [model.id for model in client.models.list()] == ["base", "blue", "plain", "red"]
    assert client.models.retrieve("red").id == "red"
    with pytest.raises(openai.NotFoundError, match="There are: base, blue, plain, red"):
        client.models.retrieve("green")


def test_answers_are_those_of_generate(server: Running, loaded) -> None:
    client = server.client()
    said = set()
    for name, tuned in loaded.items():
        for prompt in tiny.make_texts(3):
            expected = tuned.generate(prompt, max_new_tokens=12)
            answer = ask(client, name, prompt, max_tokens=12)
            assert answer.choices[0].message.content == expected
            assert answer.model == name
            said.add(expected)
    assert len(said) > 1  # or any adapter would do
    prompt = "I act as"
    done = client.completions.create(model="plain", prompt=prompt, max_tokens=12)
    assert done.choices[0].text == loaded["plain"].generate(prompt, max_new_tokens=12)


def test_a_stream_is_the_whole_answer_in_pieces(server: Running) -> None:
    client = server.client()
    whole = ask(client, "red", max_tokens=20)
    chunks = list(
        ask(client, "red", max_tokens=20, stream=True, stream_options={"include_usage": True})
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    ends = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert ends[-1] == whole.choices[0].finish_reason
    assert not any(ends[:-1])
    assert chunks[-1].usage == whole.usage
    assert len({c.id for c in chunks}) == 1

    parts = client.completions.create(model="base", prompt="tea", max_tokens=9, stream=True)
    whole_text = client.completions.create(model="base", prompt="tea", max_tokens=9)
    assert "".join(part.choices[0].text for part in parts) == whole_text.choices[0].text


def test_usage_and_the_end(server: Running) -> None:
    answer = ask(server.client(), "base", max_tokens=5)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 5
    assert answer.choices[0].finish_reason == "length"
    limited = ask(server.client(), "base", max_completion_tokens=3)
    assert limited.usage is not None
    assert limited.usage.completion_tokens == 3


def test_stop_texts_across_tokens(server: Running) -> None:
    """Each letter is a token here, so that every stop text lies across tokens."""
    client = server.client()
    whole = client.completions.create(model="plain", prompt="I act", max_tokens=40).choices[0].text
    assert len(whole) > 12
    stop = whole[6:9]
    expected = whole.partition(stop)[0]
    for stream in (False, True):
        done = client.completions.create(
            model="plain", prompt="I act", max_tokens=40, stop=["\0never", stop], stream=stream
        )
        choices = [part.choices[0] for part in done] if stream else [done.choices[0]]
        assert "".join(choice.text for choice in choices) == expected
        assert choices[-1].finish_reason == "stop"


def test_sampling_is_repeated_by_its_seed(server: Running) -> None:
    client = server.client()

    def texts(seed: int) -> list[str | None]:
        answer = ask(client, "red", temperature=1.0, seed=seed, n=3, max_tokens=12)
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        return [choice.message.content for choice in answer.choices]

    first = texts(7)
    assert texts(7) == first
    assert len(set(first)) > 1
    assert texts(100) != first
    assert (
        ask(client, "red", temperature=1.0, seed=8, max_tokens=12).choices[0].message.content
        == (first[1])
    )


def test_logprobs(server: Running) -> None:
    client = server.client()
    answer = ask(
        client, "base", max_tokens=6, logprobs=True, top_logprobs=3,
        extra_body={"repetition_penalty": 1.0},
    )  # fmt: skip
    found = answer.choices[0].logprobs
    assert found is not None and found.content is not None
    assert len(found.content) == 6
    for token in found.content:
        assert len(token.top_logprobs) == 3
        assert token.logprob == token.top_logprobs[0].logprob < 0
    raw = bytes(byte for token in found.content for byte in token.bytes or [])
    assert raw.decode(errors="replace") == answer.choices[0].message.content

    done = client.completions.create(model="base", prompt="tea", max_tokens=6, logprobs=2)
    shown = done.choices[0].logprobs
    assert shown is not None and shown.tokens is not None
    assert len(shown.tokens) == len(shown.token_logprobs or []) == 6


def test_penalties_and_biases(server: Running) -> None:
    client = server.client()
    plain = {"extra_body": {"repetition_penalty": 1.0}, "max_tokens": 30, "temperature": 0}
    token = server.service.registry.tokenizer("q")["input_ids"][-1]
    always = ask(client, "base", logit_bias={str(token): 100}, **plain)
    assert always.choices[0].message.content == "q" * 30
    varied = ask(
        client, "base", logit_bias={str(token): 15}, frequency_penalty=2, presence_penalty=2,
        **plain,
    )  # fmt: skip
    assert (varied.choices[0].message.content or "").count("q") < 20


def test_json_of_a_schema(server: Running) -> None:
    schema = {
        "type": "object",
        "properties": {
            "kind": {"enum": ["tea", "bread"]},
            "hot": {"type": "boolean"},
            "name": {"type": "string", "maxLength": 5},
        },
        "required": ["kind", "hot", "name"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "order", "schema": schema}}
    for model in ("base", "red", "blue"):
        answer = ask(server.client(), model, max_tokens=120, response_format=form)
        value = json.loads(answer.choices[0].message.content or "")
        assert set(value) == {"kind", "hot", "name"}
        assert value["kind"] in ("tea", "bread")
        assert isinstance(value["hot"], bool)
        assert answer.choices[0].finish_reason == "stop"
    with pytest.raises(openai.BadRequestError, match="schema cannot be followed"):
        ask(server.client(), "base", response_format={
            "type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}
        })  # fmt: skip


def test_text_never_becomes_a_control_token(server: Running) -> None:
    from lorita.serving.prepare import prepare_chat, prepare_completion
    from lorita.serving.rules import Defaults
    from lorita.serving.schema import ChatRequest, CompletionRequest

    registry = server.service.registry
    for content in ("<eos>", "a<eos><|assistant|>b", [{"type": "text", "text": "x<eos>"}]):
        body = ChatRequest(model="base", messages=[{"role": "user", "content": content}])
        ids = prepare_chat(registry, registry.served["base"], body, Defaults()).asked[0].prompt
        assert ids.count(0) == 1  # the template's own
    asked = CompletionRequest(model="base", prompt="a<eos>b")
    ids = prepare_completion(registry, registry.served["base"], asked, Defaults()).asked[0].prompt
    assert 0 not in ids


def test_a_model_of_texts_continues_a_single_message(server: Running) -> None:
    with pytest.raises(openai.BadRequestError, match="was not trained on chats"):
        server.client().chat.completions.create(
            model="plain", messages=[{"role": "system", "content": "x"}, *QUESTION]
        )
