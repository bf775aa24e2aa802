"""Who may use the page, and what it may load: in front of everything that the studio answers.

Without a password only this machine reaches it, and only under its own names. A page of another
site cannot send anything to it, and the browser is told to load nothing from elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from lorita.errors import SettingsError
from lorita.serving.security import is_loopback
from lorita.studio.uploads import MOST_BYTES

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

VARIABLE = "LORITA_STUDIO_PASSWORD"
SHORTEST = 8
MOST_BODY = MOST_BYTES + 2**20
"""Bytes of a request: an upload and what is around it."""
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; worker-src 'self' blob:; frame-src 'none'; object-src 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
FILES = "/files/"
"""Where the files of runs are sent from, which others may have made."""
FILE_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
)
"""A report is shown as if it came from another site: its scripts reach nothing of the page's."""
HEADERS = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
}


def check_password(host: str, password: str | None) -> None:
    """``SettingsError`` for an address that others reach without a password, or a bad one."""
    if password is None:
        if not is_loopback(host):
            raise SettingsError(
                f"host = {host}: other machines can reach this address, so a password is needed",
                hint=f"Set {VARIABLE} to it; or leave --host away, and only this machine can use "
                "the page.",
            )
    elif len(password) < SHORTEST or not password.isprintable():
        raise SettingsError(
            f"{VARIABLE}: a password should have {SHORTEST} or more printable characters"
        )


class Refusal(Exception):
    """A request that is not answered; ``status`` of HTTP."""

    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text
        super().__init__(text)


class Guard:
    """ASGI middleware that lets only allowed requests through to ``app``."""

    def __init__(self, app: App, *, password: str | None, local: bool) -> None:
        self._app, self._local = app, local
        self._password = None if password is None else _digest(password.encode())

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # the page uses no web sockets
        started = False
        headers = HEADERS
        if scope["path"].startswith(FILES):
            headers = HEADERS | {b"content-security-policy": FILE_POLICY.encode()}

        async def with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                own = [(n, v) for n, v in message["headers"] if n.lower() not in HEADERS]
                message = {**message, "headers": [*own, *headers.items()]}
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, _bounded(receive), with_headers)
        except Refusal as refusal:
            if not started:
                await _refuse(refusal, with_headers)

    def _check(self, scope: Message) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        host = headers.get(b"host", b"").decode("latin-1")
        if self._local and not is_loopback(_without_port(host)):
            # A page in a browser may reach a local server under another name (DNS rebinding).
            raise Refusal(403, "This page is for this machine only.")
        if self._password is not None and not self._knows(headers.get(b"authorization", b"")):
            raise Refusal(401, "Password needed / Hace falta la contraseña")
        origin = headers.get(b"origin", b"").decode("latin-1")
        reads = scope["method"] in ("GET", "HEAD")
        if origin and not reads and origin.partition("://")[2] != host:
            raise Refusal(403, "This request comes from another page.")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > MOST_BODY:
            raise Refusal(413, "Too large / Demasiado grande")

    def _knows(self, given: bytes) -> bool:
        scheme, _, code = given.partition(b" ")
        try:
            _, _, password = base64.b64decode(code, validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return False
        same = hmac.compare_digest(_digest(password), self._password or b"")
        return scheme.lower() == b"basic" and same


def _digest(password: bytes) -> bytes:
    """Of equal length for all, so that comparing tells nothing about a password's length."""
    return hashlib.sha256(password).digest()


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _bounded(receive: Receive) -> Receive:
    read = 0

    async def bounded() -> Message:
        nonlocal read
        message = await receive()
        if message["type"] == "http.request":
            read += len(message.get("body", b""))
            if read > MOST_BODY:
                raise Refusal(413, "Too large / Demasiado grande")
        return message

    return bounded


async def _refuse(refusal: Refusal, send: Send) -> None:
    body = refusal.text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b'Basic realm="lorita studio", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
