"""What is wrong with a request, in OpenAI's shape, so that its clients raise their own errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

INVALID = "invalid_request_error"
DO_NOT_RETRY = {"x-should-retry": "false"}
"""OpenAI's clients obey this; otherwise they ask again after an error of the server."""
_OLD_TOOLS = "the older form of tools, which is not read here; send tools and tool_choice"
_ONLY_TEXT = "the models of this server read and write text only"
_NO_THINKING = "the models of this server have no such setting"
NOT_DONE = {
    "functions": _OLD_TOOLS,
    "function_call": _OLD_TOOLS,
    "audio": _ONLY_TEXT,
    "reasoning_effort": _NO_THINKING,
    "reasoning": _NO_THINKING,
    "verbosity": _NO_THINKING,
    "prediction": "predicted outputs are not used here",
    "web_search_options": "this server asks nothing of the web",
    "moderation": "nothing is moderated here",
}
"""Parameters of OpenAI's that are refused, and why."""


class ApiError(Exception):
    """An answer that is an error; ``param`` is the part of the request that is at fault."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers or {}
        self.body: dict[str, Any] = {
            "error": {"message": message, "type": kind, "param": param, "code": code}
        }


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """The request cannot be done as it is (400)."""
    return ApiError(400, message, param=param, code=code)


def not_found(message: str, code: str | None = None, param: str | None = None) -> ApiError:
    """There is nothing of this name (404)."""
    return ApiError(404, message, code=code, param=param)


def wrong_key() -> ApiError:
    """No key, or another one than the server's (401)."""
    return ApiError(
        401,
        "Incorrect API key provided, or none. Send the server's key as "
        "'Authorization: Bearer KEY'.",
        code="invalid_api_key",
        headers={"WWW-Authenticate": "Bearer"},
    )


def conflict(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """It cannot be done in the state in which things are (409)."""
    return ApiError(409, message, param=param, code=code, headers=DO_NOT_RETRY)


def too_large(most: int, what: str = "request") -> ApiError:
    """The body has more bytes than are read (413)."""
    param = None if what == "request" else what
    message = f"The {what} has more than {most:,} bytes."
    return ApiError(413, message, code="request_too_large", param=param)


def disk_full() -> ApiError:
    """There is no room for what was sent (507)."""
    message = "The server's disk is full, so nothing was stored."
    return ApiError(507, message, kind="server_error", code="disk_full", headers=DO_NOT_RETRY)


def queue_full(waiting: int, seconds: int) -> ApiError:
    """Too many requests wait already (429)."""
    return ApiError(
        429,
        f"{waiting} requests are waiting already. Try again in about {seconds} seconds.",
        kind="rate_limit_error",
        code="rate_limit_exceeded",
        headers={"Retry-After": str(seconds)},
    )


def timed_out(seconds: float) -> ApiError:
    """The answer took too long (504)."""
    message = f"The answer was not finished within {seconds:g} seconds."
    return ApiError(504, message, kind="server_error", code="timeout", headers=DO_NOT_RETRY)


def shutting_down() -> ApiError:
    """The server ends (503)."""
    return ApiError(503, "The server is shutting down.", kind="server_error", headers=DO_NOT_RETRY)


def failed(message: str = "The server failed to answer. Its log says more.") -> ApiError:
    """A fault of the server or the model (500)."""
    return ApiError(500, message, kind="server_error", headers=DO_NOT_RETRY)


def from_validation(error: ValidationError) -> ApiError:
    """The first of the mistakes that pydantic found, with the place of it as ``param``."""
    errors = error.errors(include_url=False, include_input=False)
    first = _meant(errors)
    place = ".".join(str(part) for part in first["loc"] if not _is_choice(part))
    if first["type"] == "extra_forbidden":
        if place in NOT_DONE:
            return invalid(f"{place}: {NOT_DONE[place]}", place)
        return invalid(
            f"Unrecognized request argument supplied: {place}"[:500], place[:200] or None
        )
    if first["type"] == "json_invalid":
        said = first["msg"].removeprefix("Invalid JSON: ")
        if "hex escape" in said:
            said += r" (one half of a surrogate pair, such as \ud83d, stands for no character)"
        return invalid(f"The body is not valid JSON: {said}"[:500])
    said = first["msg"].removeprefix("Value error, ")
    return invalid(f"{place}: {said}"[:1000] if place else said[:1000], place[:200] or None)


def _meant(errors: Sequence[Any]) -> Any:
    """The first mistake. Where a value may be of several types: that of the type it is nearest."""
    first = errors[0]
    choice = next((n for n, part in enumerate(first["loc"]) if _is_choice(part)), None)
    if choice is None:
        return first
    alike = [error for error in errors if error["loc"][:choice] == first["loc"][:choice]]
    return max(alike, key=lambda error: (len(error["loc"]), not error["type"].endswith("_type")))


def _is_choice(part: object) -> bool:
    """Whether a part of a place is pydantic's name of one of several types, not a key."""
    names = ("str", "int", "constrained-str")
    return isinstance(part, str) and ("[" in part or part in names)
