"""How a model is given a prompt: as is, or through the chat template of its training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorita.data.rows import Chat, Kind, Row
from lorita.data.tokens.chat_template import ChatTemplate
from lorita.data.tokens.encoder import AS_TEXT, AS_TOKENS, Encoder, encoder_for
from lorita.data.tokens.masks import render_question
from lorita.data.tokens.pieces import Pieces
from lorita.data.tokens.tokenizer_template import closes, stop_tokens, template_from

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


TEXT_PENALTY, CHAT_PENALTY = 1.5, 1.1
"""Repetition penalties of greedy answers. Small models repeat themselves when they continue a text;
in a chat, so high a penalty would keep an answer from using the words of the question and of
earlier turns."""


@dataclass(frozen=True)
class PromptFormat:
    """The form of prompts and answers that a model was trained on.

    ``system`` and ``tools`` are those that every training row had; prompts are given them, too.
    ``control_tokens``: what a prompt means that spells a control token, ordinary ``text`` as in
    training, or the ``tokens`` themselves; None is text in a chat, and tokens in a bare prompt.
    ``repetition_penalty`` is the one that was chosen for a run's answers, if any.
    """

    kind: Kind = "text"
    template: ChatTemplate | None = None
    system: str | None = None
    control_tokens: str | None = None
    tools: tuple[Any, ...] = ()
    repetition_penalty: float | None = None

    @property
    def penalty(self) -> float:
        """The repetition penalty of answers for which none is given."""
        default = TEXT_PENALTY if self.template is None else CHAT_PENALTY
        return default if self.repetition_penalty is None else self.repetition_penalty

    def record(self) -> dict[str, Any]:
        """The JSON values stored in ``lorita.json``; ``format_from_record`` reads them back."""
        beside: dict[str, Any] = {"kind": self.kind, "control_tokens": self._control}
        if self.repetition_penalty is not None:
            beside["repetition_penalty"] = self.repetition_penalty
        if self.template is None:
            return {**beside, "chat_template": None}
        if self.template.for_tools is not None:
            beside["tools_template"] = self.template.for_tools.source
        if self.tools:
            beside["tools"] = list(self.tools)
        return {
            **beside,
            "chat_template": self.template.source,
            "template_name": self.template.name,
            "system": self.system,
            "end_of_turn": self.template.end_of_turn,
        }

    def ids(self, tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
        """The token ids of a prompt, exactly as training had them before an answer."""
        if self.template is None:
            encoder = self._encoder(tokenizer)
            return encoder.starts(encoder.as_text([prompt]))[0]
        return self.chat_ids(tokenizer, [{"role": "user", "content": prompt}])

    def chat_ids(
        self,
        tokenizer: PreTrainedTokenizerBase,
        turns: Sequence[Mapping[str, Any]],
        tools: Sequence[Any] | None = None,
    ) -> list[int]:
        """The token ids of a chat up to the assistant's next answer, system message included.

        ``tools`` replace those of the training rows. Needs a format with a template; raises
        ``TemplateError`` if it rejects the turns.
        """
        assert self.template is not None
        system = [{"role": "system", "content": self.system}] if self.system else []
        chat: list[Mapping[str, Any]] = [*system, *turns]
        listed = self.tools if tools is None else tools
        encoder = self._encoder(tokenizer)
        row = render_question(self.template, chat, listed, encoder.control)
        return Pieces(encoder).tokens_of(row, encoder.with_offsets([row.text])[0])[0]

    def _encoder(self, tokenizer: PreTrainedTokenizerBase) -> Encoder:
        return encoder_for(tokenizer, self.template, self._control)

    @property
    def _control(self) -> str:
        return self.control_tokens or (AS_TEXT if self.template else AS_TOKENS)

    def stops(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """The ids of the tokens that end an answer, end-of-text included."""
        found = {int(tokenizer.eos_token_id)}
        if self.template is not None:
            found |= stop_tokens(tokenizer, self.template)
        return sorted(found)

    def answer(self, tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
        """The generated tokens as text, without what closes the turn."""
        text = str(tokenizer.decode(ids, skip_special_tokens=True))
        if self.template is None:
            return text
        end = self.template.end_of_turn
        # A mark that is not a single token comes out as ordinary text.
        return text.partition(end)[0] if end and not closes(tokenizer, self.template) else text


def format_from_record(
    record: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase
) -> PromptFormat:
    """The prompt format stored in a run's record (see ``PromptFormat.record``)."""
    source, control = record.get("chat_template"), record.get("control_tokens", AS_TOKENS)
    penalty = record.get("repetition_penalty")
    if source is None:
        kind = record.get("kind", "text")
        return PromptFormat(kind, control_tokens=control, repetition_penalty=penalty)
    name = str(record.get("template_name", "own"))
    template = template_from(tokenizer, source, name, record.get("tools_template"))
    tools = tuple(record.get("tools", ()))
    return PromptFormat(record["kind"], template, record.get("system"), control, tools, penalty)


def shared_system(rows: Sequence[Row]) -> str | None:
    """The system message that all rows start with; None if they differ."""
    systems = {row.system if isinstance(row, Chat) else None for row in rows}
    return systems.pop() if len(systems) == 1 else None


def shared_tools(rows: Sequence[Row]) -> tuple[Any, ...]:
    """The tools that all rows have; none if they differ."""
    first = next(iter(rows), None)
    tools = first.tools if isinstance(first, Chat) else ()
    same = tools and all(isinstance(row, Chat) and row.tools == tools for row in rows)
    return tools if same else ()
