"""Answers in the shape of OpenAI's Responses API, made of those of a chat."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from lorita.serving.api_errors import ApiError
from lorita.serving.exchange import ClientGone

if TYPE_CHECKING:
    from lorita.serving.responses_schema import ResponseRequest
    from lorita.serving.service import Run

Event = tuple[str, dict[str, Any]]
"""Its type, and what it holds beside that and its number."""


class ResponseRun:
    """A chat that is being answered, in this other shape; ``close`` it in the end."""

    def __init__(self, run: Run, body: ResponseRequest) -> None:
        self._run, self._id = run, f"msg_{secrets.token_hex(24)}"
        self._same = {
            "id": f"resp_{secrets.token_hex(24)}",
            "object": "response",
            "created_at": int(time.time()),
            "model": run.model,
            "error": None,
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "store": False,
            **_repeated(body),
        }

    async def begin(self) -> None:
        """Wait for the first piece. Raises what goes wrong before it."""
        await self._run.begin()

    async def close(self) -> None:
        """Stop what is still being written."""
        await self._run.close()

    async def whole(self) -> dict[str, Any]:
        """The whole answer."""
        answer = await self._run.whole()
        [choice] = answer["choices"]
        text = choice["message"]["content"]
        return self._finished(choice, text, answer["usage"])

    async def events(self) -> AsyncIterator[bytes]:
        """The stream; an error in it is its last event."""
        number = 0
        async for kind, values in self._events():
            value = {"type": kind, "sequence_number": number, **values}
            shown = json.dumps(value, ensure_ascii=False, allow_nan=False)
            yield f"event: {kind}\ndata: {shown}\n\n".encode()
            number += 1

    async def _events(self) -> AsyncIterator[Event]:
        begun = self._shown("in_progress", [])
        yield "response.created", {"response": begun}
        yield "response.in_progress", {"response": begun}
        text = ""
        try:
            async for choice in self._run.parts():
                piece = choice["delta"].get("content")
                if piece:
                    for event in () if text else self._message_begins():
                        yield event
                    text += piece
                    yield "response.output_text.delta", self._at(delta=piece, logprobs=[])
        except ApiError as error:
            said = error.body["error"]
            shown = {name: said[name] for name in ("code", "message", "param")}
            yield "error", {"error": said, **shown}
            return
        except ClientGone:
            return
        [last] = self._run.choices()
        calls = last["message"].get("tool_calls")
        answer = self._finished(last, text if text or not calls else None, self._run.usage())
        for place, item in enumerate(answer["output"]):
            if item["type"] == "message":
                for event in () if text else self._message_begins():
                    yield event
            for event in self._message_ends(item) if "content" in item else _call_events(item):
                yield event[0], {"output_index": place, **event[1]}
        yield f"response.{answer['status']}", {"response": answer}

    def _at(self, **more: Any) -> dict[str, Any]:
        """The place of the answer's text, which comes before calls."""
        return {"item_id": self._id, "output_index": 0, "content_index": 0, **more}

    def _message(self, status: str, content: list[Any]) -> dict[str, Any]:
        shown = {"id": self._id, "type": "message", "status": status}
        return {**shown, "role": "assistant", "content": content}

    def _message_begins(self) -> Iterator[Event]:
        item = self._message("in_progress", [])
        yield "response.output_item.added", {"output_index": 0, "item": item}
        yield "response.content_part.added", self._at(part=_text_part(""))

    def _message_ends(self, item: dict[str, Any]) -> Iterator[Event]:
        [part] = item["content"]
        yield "response.output_text.done", self._at(text=part["text"], logprobs=[])
        yield "response.content_part.done", self._at(part=part)
        yield "response.output_item.done", {"item": item}

    def _finished(
        self, choice: dict[str, Any], text: str | None, usage: dict[str, int]
    ) -> dict[str, Any]:
        cut = choice["finish_reason"] == "length"
        status = "incomplete" if cut else "completed"
        output = [] if text is None else [self._message(status, [_text_part(text)])]
        output += [_call_item(call) for call in choice["message"].get("tool_calls") or []]
        return self._shown(status, output, usage)

    def _shown(
        self, status: str, output: list[Any], usage: dict[str, int] | None = None
    ) -> dict[str, Any]:
        cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
        counted = None
        if usage is not None:
            counted = {
                "input_tokens": usage["prompt_tokens"],
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": usage["completion_tokens"],
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage["total_tokens"],
            }
        shown = {**self._same, "status": status, "incomplete_details": cut}
        return {**shown, "output": output, "usage": counted}


def _repeated(body: ResponseRequest) -> dict[str, Any]:
    """What an answer repeats of its request."""
    given = body.model_dump(by_alias=True, exclude_none=True)
    text = {"format": {"type": "text"}} | given.get("text", {})
    names = ("instructions", "max_output_tokens", "temperature", "top_p", "metadata")
    return {
        **{name: given.get(name) for name in names},
        "text": text,
        "tools": given.get("tools", []),
        "tool_choice": given.get("tool_choice", "auto"),
    }


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _call_item(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {
        "id": f"fc_{secrets.token_hex(24)}",
        "type": "function_call",
        "status": "completed",
        "call_id": call["id"],
        "name": function["name"],
        "arguments": function["arguments"],
    }


def _call_events(item: dict[str, Any]) -> Iterator[Event]:
    """A call comes at once: it is known to be one only at its end."""
    begun = {**item, "status": "in_progress", "arguments": ""}
    yield "response.output_item.added", {"item": begun}
    arguments, place = item["arguments"], {"item_id": item["id"]}
    yield "response.function_call_arguments.delta", {**place, "delta": arguments}
    done = {**place, "name": item["name"], "arguments": arguments}
    yield "response.function_call_arguments.done", done
    yield "response.output_item.done", {"item": item}
