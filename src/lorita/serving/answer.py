"""One answer while it is written: its text in pieces, why it ended, its tokens' probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lorita.serving.api_errors import failed
from lorita.serving.guides import LlamaGuide, TokenGuide, TokenLogprob
from lorita.serving.text_pieces import Detokenizer, StopTexts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lorita.data.tokens.prompt_format import PromptFormat
    from lorita.engine.decoding.choose import Choice
    from lorita.engine.decoding.writer import Request
    from lorita.serving.api_errors import ApiError


@dataclass(frozen=True)
class Asked:
    """A prompt as tokens, and everything that decides how it is answered."""

    prompt: list[int]
    prompt_format: PromptFormat
    adapter: str | None
    most_tokens: int
    stops: frozenset[int]
    stop_texts: tuple[str, ...]
    choice: Choice
    make_guide: Callable[[], TokenGuide | None]
    control_tokens: bool = False
    """Whether the text shows control tokens, for tool calls that are marked with them."""


@dataclass(frozen=True)
class Piece:
    """A part of the answer with this ``index``; the last one says why it ended."""

    index: int
    text: str
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: str | None = None


@dataclass
class Answer:
    """A job of the scheduler. ``tell`` is given pieces and errors; it must not block."""

    index: int
    asked: Asked
    tokenizer: PreTrainedTokenizerBase
    tell: Callable[[Piece | ApiError], Any]
    cancelled: bool = False
    tokens: list[int] = field(default_factory=list)

    def request(self) -> Request:
        """The text to write."""
        from lorita.engine.decoding.writer import Request

        asked = self.asked
        self._guide = asked.make_guide()
        self._text = Detokenizer(self._decoded)
        if isinstance(self._guide, LlamaGuide):
            self._guide.shows_controls = asked.control_tokens
            self._text = Detokenizer(self._guide.decode)
        self._stops = StopTexts([*asked.stop_texts, *self._end_of_turn()])
        return Request(
            asked.prompt, asked.most_tokens, asked.stops, asked.choice, asked.adapter, self._guide
        )

    _guide: TokenGuide | None = field(default=None, init=False)
    _text: Detokenizer = field(init=False, repr=False)
    _stops: StopTexts = field(init=False, repr=False)

    @property
    def written(self) -> int:
        """How many tokens were written, the one that ended the answer included."""
        guide = self._guide
        return guide.written if isinstance(guide, LlamaGuide) else len(self.tokens)

    def add(self, token: int) -> bool:
        """Take a token; whether a stop text ends the answer here."""
        self.tokens.append(token)
        if token in self.asked.stops:
            return True
        passed = self._stops.add(self._text.add(token))
        found = self._guide.take_found() if self._guide is not None else []
        if passed or found:
            self.tell(Piece(self.index, passed, found))
        return self._stops.found is not None

    def end(self) -> None:
        """The answer is finished: its last piece."""
        if self._guide is not None and self._guide.failed:
            self.tell(failed("The schema could not be followed to its end."))
            return
        stopped = self._stops.found is not None or self.tokens[-1] in self.asked.stops
        rest = ""
        if self._stops.found is None:
            rest = self._stops.add(self._text.rest()) + self._stops.rest()
        self.tell(Piece(self.index, rest, finish_reason="stop" if stopped else "length"))

    def fail(self, error: ApiError) -> None:
        """There will be no answer, or no more of it."""
        self.tell(error)

    def _decoded(self, ids: Sequence[int]) -> str:
        skip = not self.asked.control_tokens
        return str(self.tokenizer.decode(ids, skip_special_tokens=skip)) if ids else ""

    def _end_of_turn(self) -> list[str]:
        """The mark that closes an answer, where it is no token: then it comes out as text."""
        from lorita.data.tokens.tokenizer_template import closes

        template = self.asked.prompt_format.template
        if template is None or not template.end_of_turn or closes(self.tokenizer, template):
            return []
        return [template.end_of_turn]
