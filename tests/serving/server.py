"""A server on the loopback, in a thread of the test, and the real ``openai`` client to ask it."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

from lorita.jobs.desk import Desk
from lorita.serving.rules import Defaults
from lorita.serving.server import (
    find_models,
    load_registry,
    make_desk,
    make_service,
    open_socket,
    serve,
)
from lorita.serving.service import Service


@dataclass
class Running:
    service: Service
    url: str
    key: str | None
    desk: Desk | None = None

    def client(self, key: str | None = None, **more: Any) -> openai.OpenAI:
        """OpenAI's client, which does not try again by itself."""
        more = {"max_retries": 0, "timeout": 60, "base_url": self.url, **more}
        return openai.OpenAI(api_key=key or self.key or "none", **more)

    def until(self, condition: Any, seconds: float = 10.0) -> None:
        """Wait until the condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not come to that"
            time.sleep(0.01)


class Asking:
    """Requests of any kind over one connection, as bytes."""

    def __init__(self, server: Running) -> None:
        host = server.url.removeprefix("http://").removesuffix("/v1")
        self._connection = http.client.HTTPConnection(host, timeout=60)

    def ask(
        self, method: str, path: str, body: bytes, kind: str = "application/json"
    ) -> tuple[int, bytes]:
        """The status and the body of the answer."""
        try:
            return self._ask(method, path, body, kind)
        except (ConnectionError, http.client.BadStatusLine):
            # Servers close connections that were idle for long. On a new one it must be answered.
            self._connection.close()
            return self._ask(method, path, body, kind)

    def _ask(self, method: str, path: str, body: bytes, kind: str) -> tuple[int, bytes]:
        self._connection.request(method, path, body, {"Content-Type": kind})
        answer = self._connection.getresponse()
        return answer.status, answer.read()


@contextmanager
def running(
    *names: str | Path,
    base: str | None = None,
    watch: Path | None = None,
    key: str | None = None,
    defaults: Defaults | None = None,
    most_waiting: int = 64,
    timeout: float = 60.0,
    jobs: dict[str, Any] | None = None,
    engine: str = "transformers",
) -> Iterator[Running]:
    """A server with these models, in float32; ``jobs`` are options of its fine-tuning jobs."""
    given: Sequence[str] = [str(name) for name in names]
    found = find_models(given, base, watch, trust_remote_code=False)
    registry = load_registry(found, watch, "float32", engine)
    service = make_service(
        registry, defaults or Defaults(max_tokens=16), most_waiting=most_waiting, timeout=timeout
    )
    desk = None if jobs is None else make_desk(registry, "float32", **jobs)
    listening = open_socket("127.0.0.1", 0)
    port = listening.getsockname()[1]
    made: list[Any] = []
    thread = threading.Thread(
        target=serve,
        args=(service, listening),
        kwargs={"host": "127.0.0.1", "key": key, "server_made": made.append, "desk": desk},
        daemon=True,
    )
    thread.start()
    try:
        yield Running(service, f"http://127.0.0.1:{port}/v1", key, desk)
    finally:
        while not made and thread.is_alive():  # a test may end before the server has begun
            time.sleep(0.01)
        made[0].should_exit = True
        made[0].force_exit = True
        thread.join(40)
        assert not thread.is_alive()
