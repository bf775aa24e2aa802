"""Who may ask: the key, the names under which a local server is asked, the size of a request."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from lorita.errors import SettingsError
from lorita.jobs.files import MOST_BYTES as MOST_FILE_BYTES
from lorita.serving.api_errors import ApiError, too_large, wrong_key

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
MOST_BYTES = 8 * 2**20
"""Of the body of a request."""
UPLOADS = "/v1/files"
"""The address of bodies that are files; they are written to the disk in pieces."""
_MOST_UPLOADED = MOST_FILE_BYTES + 2**16
OPEN_PATHS = ("/health",)
"""Answered without a key: they say nothing about models or users."""
SHORTEST_KEY = 8


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_key(host: str, key: str | None) -> None:
    """``SettingsError`` for an address that others can reach without a key, or a bad key."""
    if key is None:
        if not is_loopback(host):
            raise SettingsError(
                f"host = {host}: other machines can reach this address, so a key is needed",
                hint="Set LORITA_API_KEY (or --api-key) to a secret that clients send; or leave "
                "--host away, and only this machine can ask.",
            )
        return
    if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError(
            f"api_key: should be {SHORTEST_KEY} or more printable ASCII characters without spaces",
            hint="For example the output of: python -c 'import secrets; "
            "print(secrets.token_urlsafe())'",
        )


class Guard:
    """ASGI middleware that lets only allowed requests through to ``app``."""

    def __init__(self, app: App, *, key: str | None, local: bool) -> None:
        self._app, self._local = app, local
        self._key = None if key is None else _digest(key.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with an error."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        try:
            headers = {name.lower(): value for name, value in scope["headers"]}
            self._check(scope, headers)
        except ApiError as error:
            await answer_with(error, scope, receive, send)
            return
        await self._app(scope, _bounded(receive, _most(scope)), send)

    def _check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        if self._key is not None and scope["path"] not in OPEN_PATHS:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            same = hmac.compare_digest(_digest(given.strip()), self._key)
            if scheme.lower() != b"bearer" or not same:
                raise wrong_key()
        if self._local:
            # A page in a browser may reach a local server under another name (DNS rebinding).
            host = headers.get(b"host", b"").decode("latin-1")
            if not is_loopback(_without_port(host)):
                raise ApiError(403, f"This server answers on this machine only, not as {host!r}.")
            if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
                _check_origin(headers.get(b"origin"))
        if scope["method"] == "POST":
            wanted = "multipart/form-data" if _is_upload(scope) else "application/json"
            kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
            if kind != wanted.encode():
                raise ApiError(415, f"The Content-Type should be {wanted}.")
            length, most = headers.get(b"content-length", b"0"), _most(scope)
            if length.isdigit() and int(length[:20]) > most:
                raise too_large(most)


def _is_upload(scope: Scope) -> bool:
    return bool(scope["path"] == UPLOADS and scope["method"] == "POST")


def _most(scope: Scope) -> int:
    """The bytes that a body may have."""
    return _MOST_UPLOADED if _is_upload(scope) else MOST_BYTES


def _check_origin(origin: bytes | None) -> None:
    """``ApiError`` for a page of another site: browsers let it send forms to this machine."""
    if origin is None:
        return
    _, _, host = origin.decode("latin-1").partition("://")
    if not is_loopback(_without_port(host)):
        raise ApiError(403, "Pages of other sites cannot use this server.")


def _digest(key: bytes) -> bytes:
    """Of equal length for all keys, so that comparing tells nothing about a key's length."""
    return hashlib.sha256(key).digest()


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _bounded(receive: Receive, most: int) -> Receive:
    """``receive`` that raises ``ApiError`` when a body becomes too long."""
    read = 0

    async def bounded() -> MutableMapping[str, Any]:
        nonlocal read
        message = await receive()
        if message["type"] == "http.request":
            read += len(message.get("body", b""))
            if read > most:
                raise too_large(most)
        return message

    return bounded


async def answer_with(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    """Send an error as the answer."""
    from starlette.responses import JSONResponse

    response = JSONResponse(error.body, error.status, error.headers)
    await response(scope, receive, send)  # type: ignore[arg-type]
