"""What the server does for a request: find the model, have it answered, put it in shape."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.concurrency import run_in_threadpool

from lorita.errors import UserError
from lorita.serving.api_errors import ApiError, invalid, not_found
from lorita.serving.exchange import DONE, ClientGone, Exchange, event
from lorita.serving.prepare import Prepared, prepare_chat, prepare_completion
from lorita.serving.rules import Defaults
from lorita.serving.shapes import ChatChoice, Head, TextChoice, chat_choices, usage

if TYPE_CHECKING:
    from prometheus_client import Counter

    from lorita.serving.answer import Piece
    from lorita.serving.registry import Registry, Served
    from lorita.serving.scheduler import Scheduler
    from lorita.serving.schema import ChatRequest, CompletionRequest

Receive = Callable[[], Awaitable[Any]]
T = TypeVar("T")


class Run:
    """A request that is being answered; ``close`` it in the end."""

    def __init__(
        self,
        exchange: Exchange,
        heads: tuple[Head, Head],
        choices: list[ChatChoice] | list[TextChoice],
        prompt_tokens: int,
        *,
        wants_usage: bool,
        count: Callable[[int], None],
    ) -> None:
        self._exchange, self._pieces = exchange, exchange.pieces()
        self._head, self._chunk_head = heads
        self._choices, self._prompt_tokens = choices, prompt_tokens
        self._wants_usage, self._count = wants_usage, count
        self._first: Piece | None = None

    @property
    def model(self) -> str:
        """The name of the model that answers."""
        return self._head.model

    async def whole(self) -> dict[str, Any]:
        """The whole answer."""
        try:
            async for _ in self.parts():
                pass
        finally:
            await self.close()
        return self._head.with_choices(self.choices(), usage=self.usage())

    def choices(self) -> list[dict[str, Any]]:
        """The answers once they are finished."""
        return [choice.whole() for choice in self._choices]

    async def begin(self) -> None:
        """Wait for the first piece. Raises what goes wrong before it."""
        try:
            self._first = await anext(self._pieces)
        except BaseException:
            await self.close()
            raise

    async def events(self) -> AsyncIterator[bytes]:
        """The stream; an error in it is its last event."""
        more = {"usage": None} if self._wants_usage else {}
        for choice in self._choices:
            if isinstance(choice, ChatChoice):
                yield event(self._chunk_head.with_choices([choice.first()], **more))
        try:
            async for shown in self.parts():
                yield event(self._chunk_head.with_choices([shown], **more))
        except ApiError as error:
            yield event(error.body)
            return
        except ClientGone:
            return
        if self._wants_usage:
            yield event(self._chunk_head.with_choices([], usage=self.usage()))
        yield DONE

    async def parts(self) -> AsyncIterator[dict[str, Any]]:
        """The choices of a stream's chunks. Raises ``ApiError`` and ``ClientGone``."""
        if self._first is not None:
            for shown in self._choices[self._first.index].chunks(self._first):
                yield shown
        async for piece in self._pieces:
            for shown in self._choices[piece.index].chunks(piece):
                yield shown

    async def close(self) -> None:
        """Stop what is still being written."""
        await self._exchange.__aexit__()
        self._count(self._exchange.tokens)

    def usage(self) -> dict[str, int]:
        """The counts of tokens so far."""
        return usage(self._prompt_tokens, self._exchange.tokens)


class Service:
    """Requests are prepared one at a time, beside the scheduler's thread, and answered together."""

    def __init__(self, registry: Registry, scheduler: Scheduler, defaults: Defaults) -> None:
        import copy

        self.registry, self.scheduler, self._defaults = registry, scheduler, defaults
        self._preparing = threading.Lock()
        # Tokenizers must not be used by two threads at once.
        self._reading = copy.deepcopy(registry.tokenizer)
        self._showing = copy.deepcopy(registry.tokenizer)

    counted: Counter | None = None

    async def models(self) -> list[Served]:
        """The models that are served now."""
        await self._look()
        return sorted(self.registry.served.values(), key=lambda served: served.name)

    async def find(self, name: str) -> Served:
        """The model of this name; ``ApiError`` (404) if there is none."""
        await self._look()
        if name not in self.registry.served and ":" in name:
            await self._add(name)
        served = self.registry.served.get(name)
        if served is not None:
            return served
        if name in self.registry.refused:
            why = self.registry.refused[name][1].partition("\n")[0]
            raise not_found(f"The model '{name}' cannot be served: {why}", "model_not_found")
        names = ", ".join(sorted(self.registry.served))
        raise not_found(
            f"The model '{name[:100]}' does not exist. There are: {names}.",
            "model_not_found",
            "model",
        )

    def shown(self, served: Served) -> dict[str, Any]:
        """A model in OpenAI's shape."""
        return {
            "id": served.name,
            "object": "model",
            "created": served.created,
            "owned_by": "lorita",
            "root": self.registry.base.name,
            "chat": served.chat is not None,
        }

    async def chat(self, body: ChatRequest, receive: Receive) -> Run:
        """Begin to answer a chat."""
        served = await self.find(body.model)
        prepared = await self._prepared(prepare_chat, served, body)
        choices = chat_choices(prepared, self._showing, wants_logprobs=bool(body.logprobs))
        heads = (
            Head("chat.completion", "chatcmpl", served.name),
            Head("chat.completion.chunk", "chatcmpl", served.name),
        )
        return self._run(served, prepared, choices, heads, receive, body.wants_usage)

    async def completion(self, body: CompletionRequest, receive: Receive) -> Run:
        """Begin to continue prompts."""
        served = await self.find(body.model)
        prepared = await self._prepared(prepare_completion, served, body)
        logprobs = body.logprobs is not None
        choices = [
            TextChoice(
                number,
                self._showing,
                logprobs,
                self._repeated(body.prompts[number // body.choices]) if body.echo else "",
            )
            for number in range(len(prepared.asked))
        ]
        head = Head("text_completion", "cmpl", served.name)
        return self._run(served, prepared, choices, (head, head), receive, body.wants_usage)

    def _repeated(self, prompt: str | list[int]) -> str:
        return prompt if isinstance(prompt, str) else str(self._showing.decode(prompt))

    def _run(
        self,
        served: Served,
        prepared: Prepared,
        choices: list[ChatChoice] | list[TextChoice],
        heads: tuple[Head, Head],
        receive: Receive,
        wants_usage: bool,
    ) -> Run:
        def count(written: int) -> None:
            if self.counted is not None:
                self.counted.labels(served.name, "prompt").inc(prepared.prompt_tokens)
                self.counted.labels(served.name, "completion").inc(written)

        exchange = Exchange(self.scheduler, self._reading, prepared.asked, receive)
        tokens = prepared.prompt_tokens
        return Run(exchange, heads, choices, tokens, wants_usage=wants_usage, count=count)

    async def _prepared(
        self, prepare: Callable[..., Prepared], served: Served, body: Any
    ) -> Prepared:
        def prepared() -> Prepared:
            with self._preparing:
                try:
                    return prepare(self.registry, served, body, self._defaults)
                except UserError as error:
                    raise invalid(str(error)[:500]) from None

        return await run_in_threadpool(prepared)

    async def _add(self, name: str) -> None:
        """Serve a checkpoint, if it is one that is named."""
        if await run_in_threadpool(self.registry.on_demand, name) is None:
            return

        def add() -> None:
            if self.registry.add_named(name):
                self.scheduler.renew()

        try:
            await asyncio.wrap_future(self.scheduler.call(add))
        except UserError as error:
            raise not_found(
                f"The model cannot be served: {error}"[:500], "model_not_found"
            ) from None

    async def _look(self) -> None:
        """Serve the runs that have appeared in the watched folder."""
        if not await run_in_threadpool(self.registry.changed):
            return

        def update() -> None:
            if self.registry.update():
                self.scheduler.renew()
            if not (self.scheduler.running or self.scheduler.waiting):
                self.registry.drop_unused()

        await asyncio.wrap_future(self.scheduler.call(update))
