"""One request on its way from the scheduler's thread to the client, while the client is there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lorita.serving.answer import Answer, Piece
from lorita.serving.api_errors import ApiError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lorita.serving.answer import Asked
    from lorita.serving.scheduler import Scheduler


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


class Exchange:
    """The answers to one request. ``receive`` is ASGI's; it tells when the client has gone.

    Used as an asynchronous context manager: whatever is not finished at its end is cancelled.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        tokenizer: PreTrainedTokenizerBase,
        asked: Sequence[Asked],
        receive: Callable[[], Awaitable[Any]],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._told: asyncio.Queue[Piece | ApiError | ClientGone] = asyncio.Queue()

        def tell(item: Piece | ApiError | ClientGone) -> None:
            with suppress(RuntimeError):  # the server has ended
                loop.call_soon_threadsafe(self._told.put_nowait, item)

        self.answers = [Answer(i, one, tokenizer, tell) for i, one in enumerate(asked)]
        scheduler.submit(self.answers)
        self._scheduler = scheduler
        self._watch = asyncio.ensure_future(self._until_gone(receive, tell))

    async def __aenter__(self) -> Exchange:
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._watch.cancel()
        for answer in self.answers:
            answer.cancelled = True
        self._scheduler.wake()

    @property
    def tokens(self) -> int:
        """How many tokens were written, those that ended answers included."""
        return sum(answer.written for answer in self.answers)

    async def pieces(self) -> AsyncIterator[Piece]:
        """The pieces of all answers. Raises ``ApiError`` where one fails, and ``ClientGone``."""
        left = len(self.answers)
        while left:
            item = await self._told.get()
            if isinstance(item, Exception):
                raise item
            left -= item.finish_reason is not None
            yield item

    async def _until_gone(
        self, receive: Callable[[], Awaitable[Any]], tell: Callable[[ClientGone], None]
    ) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        tell(ClientGone())


def event(value: Any) -> bytes:
    """A server-sent event that holds JSON."""
    return f"data: {json.dumps(value, ensure_ascii=False, allow_nan=False)}\n\n".encode()


DONE = b"data: [DONE]\n\n"
"""The last event of a stream."""
