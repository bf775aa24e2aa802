"""Tiny chat models with adapters, and a server that has them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import lorita
from tests import tiny
from tests.forks import forked_by
from tests.serving.server import Running, running

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TOOLS = (
    "{% if tools %}<|tools|>{{ tools | tojson }}<eos>{% endif %}"
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
    "{% for c in m['tool_calls'] or [] %}<tool_call>{{ {'name': c['function']['name'], "
    "'arguments': c['function']['arguments']} | tojson }}</tool_call>{% endfor %}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def save_chat_model(folder: Path, template: str = TEMPLATE, room: int = 512) -> Path:
    """A tiny model whose tokenizer has a chat template and room for so many tokens."""
    from lorita.system.quiet import quiet_libraries

    model = tiny.make_model("llama")
    model.config.max_position_embeddings = room
    with quiet_libraries(hide_bars=True):
        model.save_pretrained(folder)
    tokenizer = tiny.make_tokenizer()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _forks() -> Iterator[None]:
    """The processes of jobs have imported everything."""
    with forked_by("lorita.jobs.process"):
        yield


@pytest.fixture(scope="session")
def chat_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_chat_model(tmp_path_factory.mktemp("serving") / "chat-base")


@pytest.fixture(scope="session")
def runs(chat_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of lorita in a folder: ``red`` and ``blue`` on chats, ``plain`` on texts."""
    place = tmp_path_factory.mktemp("runs")
    rows = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}]}
        for text in tiny.make_texts(16)
    ]
    (place / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "texts.txt").write_text("\n".join(tiny.make_texts(16)))
    for name, data, seed in (("red", "chats.jsonl", 1), ("blue", "chats.jsonl", 2),
                             ("plain", "texts.txt", 3)):  # fmt: skip
        lorita.train(
            model=str(chat_base), data=str(place / data), output_dir=str(place / name),
            max_steps=12, seed=seed, learning_rate=0.05, proof=False, dtype="float32", r=4,
            per_device_train_batch_size=4, max_new_tokens=4,
        )  # fmt: skip
    return place


@pytest.fixture(scope="module")
def server(runs: Path) -> Iterator[Running]:
    with running(*(runs / name for name in ("red", "blue", "plain"))) as it:
        yield it
