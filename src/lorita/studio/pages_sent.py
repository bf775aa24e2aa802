"""The HTML documents that gradio sends, put right: their language, and nothing from elsewhere.

gradio's own words, such as those of its upload field, follow the browser's language. On a page in
another language they would not match, so the page tells its scripts that the browser speaks it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lorita.studio.guard import App, Message, Receive, Send

_ELSEWHERE = re.compile(
    r'<(?:meta|link)\b[^>]*?(?:content|href)="https?://(?!127\.0\.0\.1|localhost)[^"]*"[^>]*>|'
    r'<link rel="manifest"[^>]*>|<script\b[^>]*\bsrc="https?://[^"]*"[^>]*>\s*</script>',
    re.IGNORECASE,
)
_SPEAKS = (
    "<script>Object.defineProperty(navigator,'language',{{get:()=>'{0}'}});"
    "Object.defineProperty(navigator,'languages',{{get:()=>['{0}']}});</script>"
)


class CleanPages:
    """ASGI middleware for the pages at ``/en/``, ``/es/`` and so on."""

    def __init__(self, app: App, languages: Sequence[str]) -> None:
        self._app = app
        self._paths = {f"/{code}/": code for code in languages}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass on; a page's document is collected, cleaned and sent as one."""
        code = self._paths.get(scope.get("path", "")) if scope["type"] == "http" else None
        if code is None or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        scope = {**scope, "headers": [h for h in scope["headers"] if h[0] != b"accept-encoding"]}
        start: Message = {}
        body = b""

        async def collect(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            if message["type"] != "http.response.body":  # what a server can do beyond the standard
                await send(message)
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                whole = cleaned(body.decode("utf-8"), code).encode("utf-8")
                headers = [h for h in start["headers"] if h[0].lower() != b"content-length"]
                headers.append((b"content-length", str(len(whole)).encode()))
                await send({**start, "headers": headers})
                await send({"type": "http.response.body", "body": whole})

        await self._app(scope, receive, collect)


def cleaned(html: str, language: str) -> str:
    """A page of gradio without references to other sites, in the language that it is in."""
    html = _ELSEWHERE.sub("", html)
    html = re.sub(r'(<html\b[^>]*?\blang=")[^"]*"', rf'\g<1>{language}"', html, count=1)
    return html.replace("<head>", f"<head>{_SPEAKS.format(language)}", 1)
