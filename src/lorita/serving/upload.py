"""A file on its way from the client to the disk: multipart, in pieces, never whole in memory."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from lorita.jobs.files import MOST_BYTES
from lorita.jobs.records import TRAINING_FILE, StoredFile
from lorita.serving.api_errors import ApiError, disk_full, invalid, too_large
from lorita.serving.exchange import ClientGone

if TYPE_CHECKING:
    from starlette.requests import Request

    from lorita.jobs.files import FileStore, Upload

MOST_UPLOADS = 8
"""Uploads at the same time."""
MOST_DRAINED, DRAINING_SECONDS = 64 * 2**20, 10
_MOST_FIELD_BYTES = 1024
_IDLE_SECONDS = 60
_OTHER_PURPOSES = ("assistants", "batch", "vision", "user_data", "evals")
_FIELDS = ("file", "purpose")


class _Form:
    """The parts of one request. The parser calls the methods; ``pieces`` are to be written."""

    def __init__(self) -> None:
        self.fields: dict[str, bytes] = {}
        self.filename: str | None = None
        self.pieces: list[bytes] = []
        self.ended = False
        self._header = [b"", b""]
        self._disposition = b""
        self._field: str | None = None

    def callbacks(self) -> Any:
        """The methods by the parser's names."""
        names = ("part_begin", "part_data", "header_field", "header_value", "header_end",
                 "headers_finished", "end")  # fmt: skip
        found: dict[str, Callable[..., None]] = {f"on_{n}": getattr(self, f"_{n}") for n in names}
        return found

    def _part_begin(self) -> None:
        self._disposition, self._header = b"", [b"", b""]

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def _header_end(self) -> None:
        if self._header[0].lower() == b"content-disposition":
            self._disposition = self._header[1]
        self._header = [b"", b""]

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name not in _FIELDS:
            shown = name[:100] or "a part without a name"
            raise invalid(f"Unrecognized request argument supplied: {shown}", shown)
        if name in self.fields or (name == "file" and self.filename is not None):
            raise invalid(f"{name} was given twice.", name)
        if name == "file":
            if b"filename" not in options:
                raise invalid("file: should be a file, with a name.", "file")
            self.filename = _shown(options[b"filename"])
            self._field = None
        else:
            self._field, self.fields[name] = name, b""

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self.pieces.append(data[start:end])
            return
        self.fields[self._field] += data[start:end]
        if len(self.fields[self._field]) > _MOST_FIELD_BYTES:
            raise invalid(f"{self._field}: too long.", self._field)

    def _end(self) -> None:
        self.ended = True


class Uploads:
    """Takes uploads for a store of files, some at a time."""

    def __init__(self, store: FileStore) -> None:
        self._store, self._open = store, 0

    async def receive(self, request: Request) -> StoredFile:
        """Store the file of a request. Raises ``ApiError``; then nothing of it is left."""
        parser, form = _parser(request)
        if self._open >= MOST_UPLOADS:
            raise ApiError(
                429,
                f"{self._open} files are being uploaded already. Try again when one is done.",
                kind="rate_limit_error",
                code="rate_limit_exceeded",
                headers={"Retry-After": "5"},
            )
        self._open += 1
        try:
            return await self._written(request, parser, form)
        except ApiError:
            await _drain(request)
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise disk_full() from None
            raise
        finally:
            self._open -= 1

    async def _written(self, request: Request, parser: MultipartParser, form: _Form) -> StoredFile:
        upload = await run_in_threadpool(self._store.begin)
        try:
            async for piece in _chunks(request):
                _feed(parser, piece)
                await self._write(upload, form)
            if not form.ended:
                raise invalid("The form is not complete.")
            purpose = _purpose(form)
            if form.filename is None:
                raise invalid("file: is missing.", "file")
            if upload.bytes == 0:
                raise invalid("File is empty.", "file")
            return await run_in_threadpool(upload.keep, form.filename, purpose)
        finally:
            await run_in_threadpool(upload.drop)

    async def _write(self, upload: Upload, form: _Form) -> None:
        pieces, form.pieces = b"".join(form.pieces), []
        if upload.bytes + len(pieces) > MOST_BYTES:
            raise too_large(MOST_BYTES, "file")
        if pieces:
            await run_in_threadpool(upload.write, pieces)


def _parser(request: Request) -> tuple[MultipartParser, _Form]:
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
        raise invalid("Send the file as multipart/form-data, with the fields file and purpose.")
    form = _Form()
    return MultipartParser(boundary, form.callbacks()), form


def _feed(parser: MultipartParser, piece: bytes) -> None:
    try:
        parser.write(piece)
    except FormParserError:
        raise invalid("The body is not multipart/form-data.") from None


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces; ``ApiError`` if the client stops sending."""
    stream = request.stream().__aiter__()
    while True:
        try:
            yield await asyncio.wait_for(anext(stream), _IDLE_SECONDS)
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError:
            raise ApiError(408, "The request was not sent to its end.") from None
        except ClientDisconnect:
            raise ClientGone from None


async def _drain(request: Request) -> None:
    """Read what the client still sends, within reason: it looks for the answer only then."""

    async def rest() -> None:
        left = MOST_DRAINED
        async for piece in request.stream():
            left -= len(piece)
            if left < 0:
                return

    with suppress(asyncio.TimeoutError, ClientDisconnect, RuntimeError, ApiError):
        await asyncio.wait_for(rest(), DRAINING_SECONDS)


def _purpose(form: _Form) -> str:
    given = form.fields.get("purpose", b"").decode("utf-8", "replace")
    if given == TRAINING_FILE:
        return given
    if given in _OTHER_PURPOSES:
        raise invalid(
            f"purpose: nothing here uses files of the purpose '{given}'; only '{TRAINING_FILE}' "
            "is taken.",
            "purpose",
        )
    known = ", ".join([TRAINING_FILE, *_OTHER_PURPOSES])
    raise invalid(f"purpose: '{given[:100]}' is not one of {known}.", "purpose")


def _shown(name: bytes) -> str:
    """A client's name of a file, to be shown again: without folders and control characters."""
    text = name.decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2]
    return "".join(c for c in text if c.isprintable())[:255] or "file"
