"""A conversation with a tuned model: the turns so far, and the next answer as it is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lorita.data.tokens.chat_template import TemplateError
from lorita.errors import SettingsError
from lorita.inference.options import GenerationOptions
from lorita.inference.streaming import stream
from lorita.models.context import context_length

if TYPE_CHECKING:
    from lorita.inference.tuned_model import TunedModel

OPTIONS = GenerationOptions(max_new_tokens=256)
"""Defaults of a conversation."""


@dataclass
class Conversation:
    """Turns with one model. Without a chat template, each text is continued on its own.

    ``forgotten`` counts the turns that were dropped because they no longer fit into the context;
    ``cut`` says whether the last answer reached ``max_new_tokens`` before its end.
    Raises ``SettingsError`` for a ``system`` message without a chat template.
    """

    tuned: TunedModel
    options: GenerationOptions = OPTIONS
    system: str | None = None
    turns: list[dict[str, str]] = field(default_factory=list)
    forgotten: int = 0
    cut: bool = False

    def __post_init__(self) -> None:
        if self.system is not None:
            if not self.remembers:
                raise SettingsError(
                    "a system message needs a chat template, but this model is used without one"
                )
            form = replace(self.tuned.prompt_format, system=self.system)
            self.tuned = replace(self.tuned, prompt_format=form)

    @property
    def remembers(self) -> bool:
        """Whether earlier turns are part of the prompt."""
        return self.tuned.prompt_format.template is not None

    def say(self, text: str) -> Iterator[str]:
        """Yield the answer to ``text`` in pieces; closing the iterator keeps what was said so far.

        Raises ``SettingsError`` if ``text`` alone does not fit into the model's context.
        """
        asked = {"role": "user", "content": text}
        ids = self._ids(asked)
        answer, self.cut = "", False
        pieces = stream(
            self.tuned.model, self.tuned.tokenizer, ids, self.tuned.prompt_format, self.options
        )
        try:
            while True:
                try:
                    piece = next(pieces)
                except StopIteration as end:
                    self.cut = bool(end.value)
                    return
                answer += piece
                yield piece
        finally:
            if self.remembers:
                self.turns += [asked, {"role": "assistant", "content": answer}]

    def reset(self) -> None:
        """Forget all turns."""
        self.turns.clear()
        self.forgotten = 0

    def _ids(self, asked: dict[str, str]) -> list[int]:
        """The tokens of the question and of as many of the latest turns as fit before it."""
        room = context_length(self.tuned.model.config)  # type: ignore[arg-type]
        for left_out in range(0, len(self.turns) + 1, 2):
            ids = self._tokens([*self.turns[left_out:], asked])
            if room is None or len(ids) + self.options.max_new_tokens <= room:
                del self.turns[:left_out]
                self.forgotten += left_out
                return ids
        raise SettingsError(
            f"{len(ids):,} prompt tokens and up to {self.options.max_new_tokens:,} answer tokens "
            f"are more than this model's limit of {room:,}"
        )

    def _tokens(self, turns: list[dict[str, str]]) -> list[int]:
        form, tokenizer = self.tuned.prompt_format, self.tuned.tokenizer
        if not self.remembers:
            return form.ids(tokenizer, turns[-1]["content"])
        try:
            return form.chat_ids(tokenizer, turns)
        except TemplateError as error:
            raise SettingsError(str(error)) from error
