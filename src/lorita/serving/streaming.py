"""Answers as server-sent events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from lorita.serving.responses import ResponseRun
    from lorita.serving.service import Run


class StreamedAnswer(Response):
    """Sends the events of a run as they come."""

    def __init__(self, run: Run | ResponseRun) -> None:
        super().__init__(None, 200, {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._run = run

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head, each event, and the end."""
        headers = [
            *((name, value) for name, value in self.raw_headers if name != b"content-length"),
            (b"content-type", b"text/event-stream; charset=utf-8"),
        ]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async for chunk in self._run.events():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await self._run.close()
