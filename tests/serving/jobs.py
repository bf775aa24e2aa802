"""Fine-tuning jobs as tests make them, with the real client."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import openai

from tests import tiny

QUICK: dict[str, Any] = {"proof": False, "probe": False}
"""Options of jobs that need no proof and no forecast."""
EPOCHS = 20
"""Of three steps each: time enough to be stopped in."""
HYPERPARAMETERS = {"n_epochs": EPOCHS, "batch_size": 4}


def chats(count: int = 12) -> bytes:
    """Training data that OpenAI's rules allow; all rows are different."""
    rows = [
        {"messages": [{"role": "user", "content": f"{n}. {text}"},
                      {"role": "assistant", "content": "yes"}]}
        for n, text in enumerate(tiny.make_texts(count))
    ]  # fmt: skip
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def upload(client: openai.OpenAI, content: bytes | None = None, name: str = "chats.jsonl") -> str:
    data = chats() if content is None else content
    return client.files.create(file=(name, data), purpose="fine-tune").id


def halves() -> tuple[bytes, bytes]:
    """Training and validation data, without a row in common."""
    lines = chats(18).splitlines(keepends=True)
    return b"".join(lines[:12]), b"".join(lines[12:])


def create(client: openai.OpenAI, file: str, **more: Any) -> Any:
    method = {"type": "supervised", "supervised": {"hyperparameters": HYPERPARAMETERS}}
    asked = {"model": "base", "training_file": file, "method": method, **more}
    return client.fine_tuning.jobs.create(**asked)


def until(client: openai.OpenAI, job: str, *statuses: str, seconds: float = 120) -> Any:
    """The job, once it is in one of these states."""
    end = time.monotonic() + seconds
    while (found := client.fine_tuning.jobs.retrieve(job)).status not in statuses:
        assert time.monotonic() < end, found
        assert found.status not in ("failed", "succeeded", "cancelled"), found
        time.sleep(0.05)
    return found


def events(client: openai.OpenAI, job: str) -> list[Any]:
    """All events of a job, the oldest first."""
    return list(client.fine_tuning.jobs.list_events(job, limit=100))[::-1]


def until_step(client: openai.OpenAI, job: str, text: str, seconds: float = 120) -> None:
    """Wait for an event whose message begins so."""
    end = time.monotonic() + seconds
    while not any(event.message.startswith(text) for event in events(client, job)):
        assert time.monotonic() < end
        time.sleep(0.05)


def adapter(watched: Path, job: Any) -> bytes:
    """The bytes of the adapter that a finished job has left."""
    [run] = watched.glob(f"ft-*{job.fine_tuned_model.rpartition(':')[2]}")
    return (run / "adapter_model.safetensors").read_bytes()
