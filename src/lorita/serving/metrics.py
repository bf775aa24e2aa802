"""What the server counts, in the format of Prometheus; and a line in the log for each request.

Neither holds prompts, answers, keys, or anything of an address but the route. A request's line ends
with the name that its answer has in the header ``x-request-id``.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from lorita.serving.security import App, Receive, Scope, Send

if TYPE_CHECKING:
    from lorita.serving.scheduler import Scheduler

log = logging.getLogger("lorita.serving")
METHODS = ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH")
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """The counters of one server."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "lorita_requests", "Requests.", ["route", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "lorita_request_seconds",
            "How long requests took.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.tokens = Counter(
            "lorita_tokens", "Tokens read and written.", ["model", "kind"], registry=self._registry
        )
        waiting = Gauge("lorita_waiting", "Answers not begun yet.", registry=self._registry)
        waiting.set_function(lambda: scheduler.waiting)
        running = Gauge("lorita_running", "Answers being written.", registry=self._registry)
        running.set_function(lambda: scheduler.running)

    def text(self) -> bytes:
        """All of them, for Prometheus to read."""
        return generate_latest(self._registry)


class Watch:
    """ASGI middleware that counts and logs requests."""

    def __init__(self, app: App, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note how it was answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began = 499, time.perf_counter()  # 499: the client went away before an answer
        name = f"req_{secrets.token_hex(16)}"

        async def noted(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", name.encode())]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            took = time.perf_counter() - began
            # The route as it was written in the program: an address may hold anything.
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(took)
            log.info("%s %s %d %.2f s %s", method, route, status, took, name)
