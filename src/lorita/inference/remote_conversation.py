"""A conversation with a model behind a server that speaks OpenAI's API, lorita's or another's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from lorita.errors import SettingsError
from lorita.inference.options import GenerationOptions

SECONDS = 600
"""How long a server may be silent."""
MOST_BYTES = 1_000_000
"""Of a message of the server."""
LOCAL = ("localhost", "127.0.0.1", "::1")


class _NoRedirect(HTTPRedirectHandler):
    """Another address would be sent the key."""

    def redirect_request(self, *args: Any) -> None:
        return None


class Refused(SettingsError):
    """The server's error; ``code`` is what it calls it."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class RemoteConversation:
    """Turns with a server's model; used as ``Conversation`` is.

    ``model`` None is the server's first model. Raises ``SettingsError`` if there is no such server
    or model.
    """

    url: str
    model: str | None
    key: str | None
    options: GenerationOptions
    system: str | None = None
    turns: list[dict[str, str]] = field(default_factory=list)
    forgotten: int = 0
    cut: bool = False
    remembers: bool = True

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(f"url = {self.url!r}: should begin with http:// or https://")
        self.url = self.url.rstrip("/") + ("" if parts.path.strip("/") else "/v1")
        local = parts.hostname in LOCAL
        proxies = [ProxyHandler({})] if local else []  # a proxy cannot reach this machine's servers
        self._opener = build_opener(_NoRedirect, *proxies)
        self._choose_model()

    def say(self, text: str) -> Iterator[str]:
        """Yield the answer to ``text`` in pieces; closing the iterator keeps what was said so far.

        Raises ``SettingsError`` with the server's words if it refuses.
        """
        asked = {"role": "user", "content": text}
        answer, self.cut = "", False
        response = self._asked(asked)
        try:
            with closing(response):
                for piece in self._pieces(response):
                    answer += piece
                    yield piece
        finally:
            if self.remembers:
                self.turns += [asked, {"role": "assistant", "content": answer}]

    def reset(self) -> None:
        """Forget all turns."""
        self.turns.clear()
        self.forgotten = 0

    def _choose_model(self) -> None:
        try:
            listed = json.loads(self._open("/models").read(MOST_BYTES)).get("data", [])
            models = {str(entry["id"]): entry for entry in listed}
        except (Refused, ValueError, KeyError, TypeError, AttributeError) as error:
            if self.model is None or getattr(error, "code", None) == "invalid_api_key":
                raise SettingsError(f"{self.url}: its models cannot be listed: {error}") from error
            return  # some servers list nothing
        if self.model is None:
            if not models:
                raise SettingsError(f"{self.url}: it has no models")
            self.model = next(iter(models))
        elif self.model not in models:
            raise SettingsError(
                f"{self.url}: it has no model {self.model!r}", hint=f"It has: {', '.join(models)}"
            )
        self.remembers = models[self.model].get("chat") is not False

    def _asked(self, asked: dict[str, str]) -> HTTPResponse:
        """The beginning of an answer to as many of the latest turns as there is room for."""
        head = [{"role": "system", "content": self.system}] if self.system is not None else []
        while True:
            body = {"model": self.model, "messages": [*head, *self.turns, asked], **self._how()}
            try:
                return self._open("/chat/completions", body)
            except Refused as error:
                if error.code != "context_length_exceeded" or not self.turns:
                    raise
                del self.turns[:2]
                self.forgotten += 2

    def _how(self) -> dict[str, Any]:
        options = self.options
        how: dict[str, Any] = {"stream": True, "max_tokens": options.max_new_tokens}
        how["temperature"] = options.temperature if options.do_sample else 0
        if options.do_sample:
            how |= {"top_p": options.top_p, "seed": options.seed}
            if options.top_k != GenerationOptions.top_k:
                how["top_k"] = options.top_k
        if options.repetition_penalty is not None:
            how["repetition_penalty"] = options.repetition_penalty
        return how

    def _open(self, path: str, body: Any = None) -> HTTPResponse:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        data = None if body is None else json.dumps(body).encode()
        try:
            request = Request(self.url + path, data, headers)
            answer: HTTPResponse = self._opener.open(request, timeout=SECONDS)
        except HTTPError as error:
            with error:
                raise _refusal(error.code, error.read(MOST_BYTES)) from None
        except (URLError, OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise SettingsError(
                f"{self.url}: no answer ({reason})", hint="Is the server running?"
            ) from error
        return answer

    def _pieces(self, response: HTTPResponse) -> Iterator[str]:
        try:
            for line in response:
                if not line.startswith(b"data:") or line[5:].strip() == b"[DONE]":
                    continue
                value = json.loads(line[5:])
                if "error" in value:
                    raise _refusal(500, line[5:])
                for choice in value.get("choices") or []:
                    self.cut = choice.get("finish_reason") == "length"
                    if piece := (choice.get("delta") or {}).get("content"):
                        yield piece
        except (OSError, HTTPException, ValueError, AttributeError) as error:
            raise SettingsError(f"{self.url}: the answer broke off ({error})") from error


def _refusal(status: int, body: bytes) -> Refused:
    """The error that a server answered, in its own words if it has any."""
    try:
        error = json.loads(body)["error"]
        said, code = (error, None) if isinstance(error, str) else (error["message"], error["code"])
    except (ValueError, KeyError, TypeError):
        said, code = "", None
    return Refused(f"the server refuses ({status}): {said or 'it does not say why'}", code)
