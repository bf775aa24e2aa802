"""How a model is given a prompt: as is, or through the chat template of its training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorita.data.rows import Chat, Kind, Row
from lorita.data.tokens.chat_template import ChatTemplate
from lorita.data.tokens.choose_template import closes, stop_tokens, template_from
from lorita.data.tokens.encoder import Encoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class PromptFormat:
    """The form of prompts and answers that a model was trained on.

    ``system`` is the system message that every training row had; prompts are given it too.
    """

    kind: Kind = "text"
    template: ChatTemplate | None = None
    system: str | None = None

    def record(self) -> dict[str, Any]:
        """The JSON values stored in ``lorita.json``; ``format_from_record`` reads them back."""
        if self.template is None:
            return {"kind": self.kind, "chat_template": None}
        return {
            "kind": self.kind,
            "chat_template": self.template.source,
            "template_name": self.template.name,
            "system": self.system,
            "end_of_turn": self.template.end_of_turn,
        }

    def ids(self, tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
        """The token ids of a prompt, exactly as training had them before an answer."""
        if self.template is None:
            return Encoder(tokenizer).starts([prompt])[0]
        return self.chat_ids(tokenizer, [{"role": "user", "content": prompt}])

    def chat_ids(
        self, tokenizer: PreTrainedTokenizerBase, turns: Sequence[Mapping[str, str]]
    ) -> list[int]:
        """The token ids of a chat up to the assistant's next answer, system message included.

        Needs a format with a template; raises ``TemplateError`` if it rejects the turns.
        """
        assert self.template is not None
        system = [{"role": "system", "content": self.system}] if self.system else []
        text = self.template.prompt([*system, *turns])
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

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
    source = record.get("chat_template")
    if source is None:
        return PromptFormat(record.get("kind", "text"))
    name = str(record.get("template_name", "own"))
    template = template_from(tokenizer, source, name)
    return PromptFormat(record["kind"], template, record.get("system"))


def shared_system(rows: Sequence[Row]) -> str | None:
    """The system message that all rows start with; None if they differ."""
    systems = {row.system if isinstance(row, Chat) else None for row in rows}
    return systems.pop() if len(systems) == 1 else None
