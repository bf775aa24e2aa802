"""A chat with the base and the tuned model at once: the same words to both, side by side."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from lorita.studio.html import joined, pair, quiet
from lorita.studio.tools import MODEL_WORK, Tools
from lorita.studio.words import Told, Words
from lorita.system.memory import release_freed

if TYPE_CHECKING:
    from lorita.inference.conversation import Conversation
    from lorita.inference.tuned_model import TunedModel

MOST_NEW = 200
MOST_TURNS = 50
LONGEST = 20_000
PATIENCE = 120.0
"""Seconds to wait for another answer or a forecast."""


@dataclass
class Turn:
    """A message and both answers, which grow while they are written.

    ``ended`` and ``cut`` say which are finished, and which of these were too long.
    """

    asked: str
    base: str = ""
    tuned: str = ""
    ended: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)


@dataclass
class Talk:
    """One window's chat with one run."""

    run: str = ""
    turns: list[Turn] = field(default_factory=list)


class Models:
    """The model of the run that was asked last, in memory; the studio keeps no second one."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self._name: tuple[Path, float] | None = None
        self._tuned: TunedModel | None = None

    def release(self) -> None:
        """Give the memory back, for a training that begins."""
        self._name = self._tuned = None
        release_freed()  # what a thread has freed stays with that thread

    def open(self, folder: Path) -> TunedModel:
        """The tuned model of a run; ``UserError`` if it cannot be loaded."""
        name = (folder, (folder / "adapter_config.json").stat().st_mtime)
        if self._tuned is None or self._name != name:
            self.release()
            self._tuned = self.tools.open(folder)
            self._name = name
        return self._tuned


def ask(models: Models, talk: Talk, folder: Path, text: str) -> None:
    """Add a turn to the talk; the answers grow in it while this lasts.

    ``Told`` for an empty message or a busy model.
    """
    if not text.strip():
        raise Told("empty_question")
    if not MODEL_WORK.acquire(timeout=PATIENCE):
        raise Told("busy")
    try:
        tuned = models.open(folder)
        if talk.run != folder.name:
            talk.run, talk.turns = folder.name, []
        turn = Turn(text[:LONGEST])
        conversations = {
            who: _conversation(models.tools, tuned, talk, who) for who in ("base", "tuned")
        }
        talk.turns = [*talk.turns[-MOST_TURNS:], turn]
        for who, conversation in conversations.items():
            with tuned.bare() if who == "base" else nullcontext(tuned.model) as model:
                conversation.tuned = replace(tuned, model=model)
                for piece in conversation.say(turn.asked):
                    setattr(turn, who, getattr(turn, who) + piece)
            turn.ended.add(who)
            if conversation.cut:
                turn.cut.add(who)
    finally:
        MODEL_WORK.release()


def _conversation(tools: Tools, tuned: TunedModel, talk: Talk, who: str) -> Conversation:
    """The turns so far as one of the two models has had them."""
    turns = []
    for turn in talk.turns:
        turns.append({"role": "user", "content": turn.asked})
        turns.append({"role": "assistant", "content": getattr(turn, who)})
    return tools.converse(tuned, MOST_NEW, turns)


def shown_talk(words: Words, talk: Talk) -> str:
    """The HTML of a chat."""
    if not talk.turns:
        return quiet(words("no_chat_yet"))
    parts: list[str] = []
    for turn in talk.turns:
        parts.append(Markup('<p class="asked">{}</p>').format(turn.asked))
        parts.append(pair(words, _answer(words, turn, "base"), _answer(words, turn, "tuned")))
    return joined(parts)


def _answer(words: Words, turn: Turn, who: str) -> Markup:
    text = getattr(turn, who)
    remark = words("was_cut", most=MOST_NEW) if who in turn.cut else ""
    if who in turn.ended and not text.strip():
        remark = words("was_empty")
    return Markup('{} <span class="quiet">{}</span>').format(text, remark)
