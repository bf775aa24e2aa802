"""The body of a request, as what it should be."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from lorita.serving.api_errors import ApiError, from_validation

if TYPE_CHECKING:
    from starlette.requests import Request

READING_SECONDS = 60
"""How long a client may take to send its request."""
Body = TypeVar("Body", bound=BaseModel)


async def read(request: Request, kind: type[Body], *, optional: bool = False) -> Body:
    """The body of a request; ``ApiError`` if it is not what it should be, or does not come.

    ``optional``: there need not be one.
    """
    try:
        raw = await asyncio.wait_for(request.body(), READING_SECONDS)
    except asyncio.TimeoutError:
        raise ApiError(408, "The request was not sent to its end.") from None
    try:
        return kind.model_validate_json(b"{}" if optional and not raw else raw)
    except ValidationError as error:
        raise from_validation(error) from None
