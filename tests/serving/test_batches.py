"""Many requests at once: each gets its own answer, in turn, and none is kept for nobody."""

from __future__ import annotations

import gc
import http.client
import json
import random
import shutil
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import openai
import pytest

import lorita
from lorita.engine.decoding.writer import Request, Text
from lorita.serving.api_errors import ApiError, failed
from lorita.serving.rules import Defaults
from lorita.serving.scheduler import Scheduler
from tests import tiny
from tests.inference.test_several_adapters import make_adapter
from tests.serving.conftest import save_chat_model
from tests.serving.server import Running, running

MODELS = ("red", "blue", "plain")
LONG = {"max_tokens": 400, "extra_body": {"repetition_penalty": 1.0}}


def ask(client: openai.OpenAI, model: str, content: str, **more: object):  # type: ignore[no-untyped-def]
    asked = [{"role": "user", "content": content}]
    return client.chat.completions.create(model=model, messages=asked, **more)  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def expected(runs: Path) -> dict[tuple[str, str], str]:
    """What ``lorita generate`` answers to each prompt, with each run and the base."""
    prompts = tiny.make_texts(10)
    answers = {}
    for name in MODELS:
        tuned = lorita.load(runs / name, dtype="float32")
        said = tuned.generate_batch(prompts, max_new_tokens=16)
        answers |= {(name, prompt): text for prompt, text in zip(prompts, said, strict=True)}
    return answers


@pytest.mark.parametrize(
    ("clients", "each"), [(16, 3), pytest.param(32, 20, marks=pytest.mark.slow)]
)
def test_no_answer_is_wrong_and_none_is_lost(
    runs: Path, expected: dict[tuple[str, str], str], clients: int, each: int
) -> None:
    """Three adapters in one batch, streamed or whole."""
    with running(*(runs / name for name in MODELS)) as server:
        client = server.client()
        took: list[float] = []

        def one(number: int) -> int:
            rng = random.Random(number)
            for _ in range(each):
                key = rng.choice(list(expected))
                began = time.perf_counter()
                if rng.random() < 0.5:
                    text = ask(client, *key, max_tokens=16).choices[0].message.content
                else:
                    chunks = ask(client, *key, max_tokens=16, stream=True)
                    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
                took.append(time.perf_counter() - began)
                assert text == expected[key], key
            return each

        with ThreadPoolExecutor(clients) as pool:
            assert sum(pool.map(one, range(clients))) == clients * each
        assert server.service.scheduler.running == server.service.scheduler.waiting == 0
        cuts = statistics.quantiles(took, n=20)
        print(f"p50 {cuts[9]:.2f} s, p95 {cuts[18]:.2f} s")


def test_eight_chats_share_their_steps(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step costs about the same for one text and for eight, so few steps are much throughput."""
    scheduler, steps = server.service.scheduler, []
    step = scheduler._step
    monkeypatch.setattr(scheduler, "_step", lambda w: (steps.append(w), time.sleep(0.02), step(w)))

    def count(chats: int) -> int:
        steps.clear()
        more = {"max_tokens": 40, "logit_bias": {"0": -100}}  # none ends earlier
        with ThreadPoolExecutor(chats) as pool:
            list(pool.map(lambda n: ask(server.client(), MODELS[n % 3], f"{n}", **more),
                          range(chats)))  # fmt: skip
        return len(steps)

    alone = count(1)
    assert alone >= 39
    assert count(8) / 8 < alone / 3


@pytest.fixture
def small(chat_base: Path) -> Iterator[Running]:
    with running(chat_base, most_waiting=2, timeout=1.5) as it:
        yield it


def hold(server: Running) -> list[openai.Stream]:
    """Fill the batch: the scheduler is kept busy with answers that nobody reads."""
    client = server.client()
    return [ask(client, "base", f"x{n}", stream=True, n=16, **LONG) for n in range(2)]


def test_a_full_queue_and_a_timeout(small: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_down(small, monkeypatch)
    held = hold(small)
    with ThreadPoolExecutor(4) as pool:
        waiting = pool.submit(ask, small.client(), "base", "x", n=2, **LONG)
        small.until(lambda: small.service.scheduler.waiting == 2)
        with pytest.raises(openai.RateLimitError) as full:
            ask(small.client(), "base", "x")
        assert int(full.value.response.headers["Retry-After"]) >= 1
        assert full.value.type == "rate_limit_error"
        with pytest.raises(openai.InternalServerError, match=r"within 1\.5 seconds"):
            waiting.result()
    with pytest.raises(openai.APIError, match="within"):
        for stream in held:
            for _ in stream:
                pass
    monkeypatch.undo()
    small.until(lambda: small.service.scheduler.running == 0)
    assert ask(small.client(), "base", "x", max_tokens=1)


def slow_down(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each step take a while, so that answers are still open when a test looks."""
    scheduler = server.service.scheduler
    step = scheduler._step
    monkeypatch.setattr(scheduler, "_step", lambda writer: (time.sleep(0.03), step(writer)))


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_nobody_waits_for_is_stopped(
    server: Running, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    slow_down(server, monkeypatch)
    host = server.url.removeprefix("http://").removesuffix("/v1")
    connection = http.client.HTTPConnection(host, timeout=30)
    body = {"model": "red", "messages": [{"role": "user", "content": "x"}], "stream": stream,
            "max_tokens": 400, "logit_bias": {"0": -100}}  # fmt: skip
    connection.request(
        "POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"}
    )
    server.until(lambda: server.service.scheduler.running == 1)
    if stream:
        connection.getresponse().read(10)
    assert connection.sock is not None
    connection.sock.close()
    connection.close()
    server.until(lambda: server.service.scheduler.running == 0, seconds=5)


class OneText:
    """A writer with room for one text, which has two tokens."""

    def __init__(self) -> None:
        self.open: list[Text] = []

    @property
    def room(self) -> int:
        return 1 - len(self.open)

    def prefill(self, requests: list[Request]) -> list[Text]:
        self.open = [Text(request, 0, None, [1]) for request in requests]  # type: ignore[arg-type]
        return self.open

    def step(self) -> list[Text]:
        (text,) = texts = list(self.open)
        text.tokens.append(2)
        self.leave(text)
        return texts

    def leave(self, text: Text) -> None:
        self.open, text.finished = [], True

    def cache_bytes(self, more: list[Request]) -> int:
        return 0

    def forget(self) -> None:
        pass


class Noted:
    """A job that notes when it began and ended."""

    cancelled = False

    def __init__(self, number: int, notes: list[tuple[str, int]], broken: bool = False) -> None:
        self.number, self.notes, self.broken, self.done = number, notes, broken, Event()

    def request(self) -> Request:
        return Request([self.number], 2)

    def add(self, token: int) -> bool:
        if self.broken:
            raise ValueError("what a user wrote")
        if token == 1:
            self.notes.append(("began", self.number))
        return False

    def end(self) -> None:
        self.notes.append(("ended", self.number))
        self.done.set()

    def fail(self, error: ApiError) -> None:
        self.notes.append((str(error), self.number))
        self.done.set()


def test_first_come_first_served() -> None:
    scheduler = Scheduler(OneText, most_waiting=100, timeout=10)
    notes: list[tuple[str, int]] = []
    jobs = [Noted(number, notes, broken=number == 3) for number in range(6)]
    for job in jobs:
        scheduler.submit([job])
    for job in jobs:
        assert job.done.wait(10)
    expected = [[("began", n), ("ended", n)] if n != 3 else [(str(failed()), 3)] for n in range(6)]
    assert notes == [note for pair in expected for note in pair]
    assert scheduler.call(lambda: "done").result(10) == "done"
    scheduler.stop()
    with pytest.raises(ApiError, match="shutting down"):
        scheduler.submit([Noted(9, notes)])


def test_runs_come_and_go_without_a_restart(chat_base: Path, runs: Path, tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    with running(chat_base, watch=watched) as server:
        client = server.client()

        def names() -> list[str]:
            return [model.id for model in client.models.list()]

        assert names() == ["base"]
        before = ask(client, "base", "I act", max_tokens=12).choices[0].message.content
        long = ask(client, "base", "I act", stream=True, **LONG)
        next(iter(long))
        for name in ("red", "blue"):
            shutil.copytree(runs / name, tmp_path / name)
            (tmp_path / name).rename(watched / name)
            expected = lorita.load(runs / name, dtype="float32").generate(
                "I act", max_new_tokens=12
            )
            assert ask(client, name, "I act", max_tokens=12).choices[0].message.content == expected
        assert "".join(chunk.choices[0].delta.content or "" for chunk in long)
        assert names() == ["base", "blue", "red"]
        assert ask(client, "base", "I act", max_tokens=12).choices[0].message.content == before

        shutil.rmtree(watched / "red")
        assert names() == ["base", "blue"]
        with pytest.raises(openai.NotFoundError):
            ask(client, "red", "x")
        shutil.rmtree(watched / "blue")
        shutil.copytree(runs / "red", tmp_path / "again")
        (tmp_path / "again").rename(watched / "blue")  # another run of the same name
        other = lorita.load(runs / "red", dtype="float32").generate("I act", max_new_tokens=12)
        assert ask(client, "blue", "I act", max_tokens=12).choices[0].message.content == other


def test_a_run_that_cannot_share_the_base_is_named(
    chat_base: Path, runs: Path, tmp_path: Path
) -> None:
    watched = tmp_path / "watched"
    for name in ("broken", "good"):
        shutil.copytree(runs / "red", watched / name)
    (watched / "broken" / "adapter_model.safetensors").write_bytes(b"nothing")
    with running(chat_base, watch=watched) as server:
        assert [m.id for m in server.client().models.list()] == ["base", "good"]
        with pytest.raises(openai.NotFoundError, match=r"cannot be served.*damaged"):
            ask(server.client(), "broken", "x")
        assert ask(server.client(), "good", "x", max_tokens=1)


def test_an_adapter_that_does_not_fit_leaves_the_base_as_it_was(
    chat_base: Path, tmp_path: Path
) -> None:
    from lorita.inference.checked_base import load_checked_base
    from lorita.inference.resolve import resolve
    from lorita.models.load_adapter import load_adapters

    model, _ = load_checked_base(resolve(str(chat_base)), "float32")
    names = [name for name, _ in model.named_parameters()]
    good = make_adapter(tmp_path / "good", 1, r=2)
    bad = make_adapter(tmp_path / "bad", 1, r=2)
    from safetensors.torch import load_file, save_file

    tensors = load_file(bad / "adapter_model.safetensors")
    save_file({k: v[:, :5].contiguous() if "lora_A" in k else v for k, v in tensors.items()},
              bad / "adapter_model.safetensors")  # fmt: skip
    with pytest.raises(lorita.UserError):
        load_adapters(model, {"a": bad})
    assert [name for name, _ in model.named_parameters()] == names
    tuned = load_adapters(model, {"a": good})
    with pytest.raises(lorita.UserError):
        load_adapters(tuned, {"b": bad})
    assert list(tuned.peft_config) == ["a"]


def test_a_run_that_needs_a_base_of_its_own_is_served_alone(
    chat_base: Path, tmp_path: Path
) -> None:
    dora = make_adapter(tmp_path / "dora", 4, r=2, use_dora=True)
    with running(dora, base=str(chat_base)) as server:
        client = server.client()
        assert [model.id for model in client.models.list()] == ["dora"]
        done = client.completions.create(model="dora", prompt="I act as", max_tokens=12)
        tuned = lorita.load(dora, base=str(chat_base), dtype="float32")
        assert done.choices[0].text == tuned.generate("I act as", max_new_tokens=12)


def test_models_that_the_engine_does_not_know(
    runs: Path, expected: dict[tuple[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers writes their texts one at a time; the answers are the same."""
    import lorita.engine.decoding.decoder as decoder

    monkeypatch.setattr(decoder, "usable_decoder", lambda *_: None)
    with running(runs / "red", runs / "blue", defaults=Defaults(16)) as server:
        client = server.client()
        keys = [key for key in expected if key[0] != "plain"][::4]
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda key: ask(client, *key), keys))
        for key, answer in zip(keys, answers, strict=True):
            assert answer.choices[0].message.content == expected[key]
        first = ask(client, "red", "x", temperature=1.0, seed=3, max_tokens=8, n=2)
        again = ask(client, "red", "x", temperature=1.0, seed=3, max_tokens=8, n=2)
        assert [c.message.content for c in first.choices] == [
            c.message.content for c in again.choices
        ]
        base = ask(client, "base", "x", max_tokens=4, logprobs=True)
        assert base.choices[0].logprobs is not None
        stream = ask(client, "base", "x", stream=True, **LONG)
        next(iter(stream))
        stream.close()
        server.until(lambda: server.service.scheduler.running == 0)


def test_a_template_with_tools(tmp_path: Path) -> None:
    from tests.serving.conftest import TOOLS

    base = save_chat_model(tmp_path / "tools", TOOLS)
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    with running(base) as server:
        answer = ask(server.client(), "base", "x", tools=[tool], max_tokens=4)
        assert answer.choices[0].message.tool_calls is None
        messages = [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "seen"},
        ]  # fmt: skip
        assert server.client().chat.completions.create(
            model="base", messages=messages, tools=[tool], max_tokens=4
        )  # type: ignore[call-overload]


def test_one_answer_that_fails_leaves_the_others_alone(
    server: Running, expected: dict[tuple[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grammar without a way on, and a temperature that no number can be divided by."""
    from lorita.serving.constrained import JsonGrammar

    slow_down(server, monkeypatch)
    client = server.client()
    key = next(iter(expected))
    schema = {"name": "x", "schema": {"type": "object"}}
    with ThreadPoolExecutor(4) as pool:
        good = pool.submit(ask, client, *key, max_tokens=16)
        server.until(lambda: server.service.scheduler.running == 1)
        coldest = pool.submit(ask, client, *key, max_tokens=16, temperature=1e-300)
        monkeypatch.setattr(JsonGrammar, "chosen", lambda self, token: self._matcher.reset())
        monkeypatch.setattr(
            JsonGrammar, "__init__", lambda self, *parts: broken_grammar(self, *parts)
        )
        with pytest.raises(openai.InternalServerError, match="schema could not be followed"):
            ask(client, "red", "x", max_tokens=9, response_format={
                "type": "json_schema", "json_schema": schema})  # fmt: skip
        for answer in (good, coldest):
            assert answer.result().choices[0].message.content == expected[key]


def broken_grammar(grammar: object, tokenizer: object, text: str, stops: frozenset[int]) -> None:
    from llguidance import LLMatcher

    grammar._matcher = LLMatcher(tokenizer, "{nonsense", log_level=0)  # type: ignore[attr-defined]
    grammar._stops, grammar.failed = list(stops), False  # type: ignore[attr-defined]


@pytest.mark.slow
def test_memory_stays_as_it_is(runs: Path) -> None:
    from lorita.system.memory import memory_in_use

    with running(runs / "red", runs / "blue") as server:
        client = server.client()

        def some(count: int) -> None:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda n: ask(client, ("red", "blue")[n % 2], f"{n}", max_tokens=4),
                              range(count)))  # fmt: skip

        gc.collect()
        some(1000)
        before = memory_in_use()
        some(1000)
        assert memory_in_use() - before < 20_000_000
