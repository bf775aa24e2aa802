"""``lorita serve --engine llama.cpp``: the same API; no adapter's cache is used under another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

import lorita
from lorita.serving.llama_registry import LlamaRegistry
from lorita.serving.llama_writer import LlamaWriter
from tests import tiny
from tests.export import models
from tests.serving.conftest import TEMPLATE
from tests.serving.server import Running, running

PROMPT = "You are a cook who writes about bread and the sea, and answers in rhymes."
NAMES = ("red", "blue")


@pytest.fixture(scope="module")
def gguf_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs on chats, of a base whose tokenizer llama.cpp knows."""
    place = tmp_path_factory.mktemp("llamacpp")
    base = place / "base"
    model = models.make_model("llama")
    model.config.max_position_embeddings = 512
    model.save_pretrained(base)
    tokenizer = models.make_tokenizer()
    tokenizer.chat_template = TEMPLATE.replace("<eos>", "<|endoftext|>")
    tokenizer.save_pretrained(base)
    rows = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}]}
        for text in tiny.make_texts(8)
    ]
    (place / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for seed, name in enumerate(NAMES):
        lorita.train(
            model=str(base), data=str(place / "chats.jsonl"), output_dir=str(place / name),
            max_steps=6, seed=seed, learning_rate=0.05, proof=False, dtype="float32", r=4,
            per_device_train_batch_size=4, max_new_tokens=4,
        )  # fmt: skip
    return place


@pytest.fixture(scope="module")
def server(gguf_runs: Path) -> Iterator[Running]:
    with running(*(gguf_runs / name for name in NAMES), engine="llama.cpp") as it:
        yield it


def ask(running: Running, model: str, content: str = PROMPT, **more: object) -> str:
    asked = [{"role": "user", "content": content}]
    done = running.client().chat.completions.create(
        model=model, messages=asked, **{"max_tokens": 12, **more}
    )
    return done.choices[0].message.content or ""


def test_no_cache_is_used_under_another_adapter(server: Running, gguf_runs: Path) -> None:
    """The same prompt, by turns and at the same time: each answer is that of a fresh model."""
    fresh = {n: lorita.load(gguf_runs / n, dtype="float32") for n in NAMES}
    expected = {n: tuned.generate(PROMPT, max_new_tokens=12) for n, tuned in fresh.items()}
    expected["base"] = ask(server, "base")
    assert len(set(expected.values())) == 3
    for _ in range(3):
        for name, answer in expected.items():
            assert ask(server, name) == answer
    turns = [*expected] * 4
    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(lambda name: ask(server, name), turns))
    assert said == [expected[name] for name in turns]


def test_each_model_has_slots_of_its_own(server: Running) -> None:
    """What llama.cpp does with a slot whose adapter changes depends on its version."""
    writer = server.service.scheduler._writer
    assert isinstance(writer, LlamaWriter)
    names = [None, *writer._adapters]
    assert len(names) == 3
    slots = [slot for name in names for slot in writer.slots_of(name)]
    assert len(set(slots)) == len(slots)
    assert writer._last.keys() <= set(slots)
    used = {name: writer._last.keys() & set(writer.slots_of(name)) for name in names}
    assert all(used.values())


def test_the_cache_is_used(server: Running) -> None:
    """The same prompt again is not read again: its slot knows it."""
    writer = server.service.scheduler._writer
    assert isinstance(writer, LlamaWriter)
    server.until(lambda: not writer.open)
    before = dict(writer._last)
    ask(server, "red")
    assert dict(writer._last) == before  # the slot that knows it


def test_streams_usage_and_stop_texts(server: Running) -> None:
    client = server.client()
    whole = ask(server, "red", max_tokens=20)
    asked = [{"role": "user", "content": PROMPT}]
    chunks = list(client.chat.completions.create(
        model="red", messages=asked, max_tokens=20, stream=True,
        stream_options={"include_usage": True},
    ))  # fmt: skip
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole
    assert chunks[-1].usage is not None
    assert 0 < chunks[-1].usage.completion_tokens <= 20
    long = client.completions.create(model="base", prompt="I act", max_tokens=30)
    assert long.usage is not None
    text = long.choices[0].text
    if long.choices[0].finish_reason == "length":
        assert long.usage.completion_tokens == 30
    stop = text[5:8]
    cut = client.completions.create(model="base", prompt="I act", max_tokens=30, stop=[stop])
    assert cut.choices[0].text == text.partition(stop)[0]
    assert cut.choices[0].finish_reason == "stop"


def test_a_bias_and_a_seed(server: Running) -> None:
    token = server.service.registry.tokenizer("q")["input_ids"][0]
    plain = {"repetition_penalty": 1.0}
    said = ask(server, "base", logit_bias={str(token): 100}, extra_body=plain)
    assert said == "q" * 12
    first = [ask(server, "red", temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    assert first[0] == first[1] != first[2]


@pytest.mark.parametrize(
    "more",
    [
        {"presence_penalty": 1.0},
        {"frequency_penalty": 0.5},
        {"logprobs": True},
        {"response_format": {"type": "json_object"}},
    ],
)
def test_what_llama_cpp_does_not_do_is_refused(server: Running, more: dict[str, object]) -> None:
    with pytest.raises(openai.BadRequestError, match="not with the engine") as refused:
        ask(server, "red", **more)
    assert refused.value.param == next(iter(more))


def test_too_long_a_prompt(server: Running) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length is 512"):
        ask(server, "red", "a" * 600)


def test_a_client_that_goes_away_frees_its_place(server: Running) -> None:
    client = server.client()
    stream = client.completions.create(
        model="base", prompt="I", max_tokens=480, stream=True, extra_body={"repetition_penalty": 1}
    )
    next(iter(stream))
    stream.close()
    server.until(lambda: server.service.scheduler.running == 0)
    assert ask(server, "red")


def test_a_run_that_appears(gguf_runs: Path, tmp_path: Path) -> None:
    with running(str(gguf_runs / "base"), watch=tmp_path, engine="llama.cpp") as it:
        assert isinstance(it.service.registry, LlamaRegistry)
        assert [model.id for model in it.client().models.list()] == ["base"]
        before = ask(it, "base")
        (tmp_path / "red").symlink_to(gguf_runs / "red")
        assert [model.id for model in it.client().models.list()] == ["base", "red"]
        assert ask(it, "red") != before
        assert ask(it, "base") == before
