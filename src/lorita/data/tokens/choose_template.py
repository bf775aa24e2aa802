"""Choose a chat template: the tokenizer's own, a built-in one by name, or a file.

The built-in templates are in ``chat_templates/``. They are written without a beginning-of-text
token; it is put in front if the tokenizer itself would add it, so that it appears exactly once.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.data.rows import Chat, Pair, Row, as_chat
from lorita.data.tokens.asking import ask_alike
from lorita.data.tokens.chat_template import ChatTemplate, TemplateError
from lorita.data.tokens.encoder import adds_bos
from lorita.data.tokens.masks import LostFields, MarkedTurn, render_chat
from lorita.data.tokens.split_marks import split_note
from lorita.data.tokens.tokenizer_template import (
    closes,
    own_sources,
    own_template,
    template_from,
)
from lorita.errors import DataError
from lorita.storage.reading import read_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FOLDER = Path(__file__).parent / "chat_templates"
NAMED = ("chatml", "llama3", "gemma", "mistral", "alpaca", "zephyr")
FOR_BASE_MODELS = "chatml"
LOOKED_AT = 20
"""Rows looked at to tell how answers have to be asked for."""
NONE = "none"
"""The value of ``chat_template`` that switches templates off."""


def choose_template(
    tokenizer: PreTrainedTokenizerBase,
    wanted: str | None,
    kind: str,
    rows: Sequence[Row] = (),
) -> tuple[ChatTemplate | None, list[str]]:
    """The template for rows of a kind (None: rows are used as is), and notes about the choice.

    ``wanted`` is a name, a file or ``none``; None chooses by itself. ``rows`` are some of the rows:
    how their answers are asked for depends on them. Raises ``DataError`` if the template is missing
    or broken, or if chats are to be used without one.
    """
    if kind == "text":
        unused = wanted not in (None, NONE)
        return None, ["the chat template is not used: the rows are plain text"] if unused else []
    if wanted == NONE:
        if kind == "chat":
            raise DataError("chat_template none: chats cannot be trained without a template")
        return None, []
    own = own_template(tokenizer)
    if wanted is None and own is None and kind == "pair":
        return None, []
    if wanted is not None:
        found = _wanted_template(tokenizer, wanted)
        notes = [f"chat template: {found.name}", *_marks_note(tokenizer, found)]
    elif own is not None:
        found = _usable(own, "the tokenizer's chat template")
        notes = ["chat template: the tokenizer's own"]
    else:
        found = _named(tokenizer, FOR_BASE_MODELS)
        note = f"the tokenizer has no chat template: {FOR_BASE_MODELS} is used (--chat-template)"
        notes = [note, *_marks_note(tokenizer, found)]
    chats = [as_chat(row) if isinstance(row, Pair) else row for row in islice(rows, LOOKED_AT)]
    found, said = ask_alike(found, [chat for chat in chats if isinstance(chat, Chat)])
    return found, [*notes, *split_note(tokenizer, found), *said]


def template_hint(
    tokenizer: PreTrainedTokenizerBase, error: TemplateError, chat: Chat, train_on: str
) -> str:
    """What to do about a chat that the template rejects, or of which it loses a part.

    Built-in templates are named only if they take the chat with everything in it.
    """
    if isinstance(error, MarkedTurn):
        return "Remove the mark from these turns, or train every turn: --train-on all."
    fitting = [name for name in NAMED if _takes(_named(tokenizer, name), chat, train_on)]
    names = f"{' or '.join(fitting[:2])}, or a file" if fitting else "FILE"
    if not isinstance(error, LostFields):
        return f"Use a template that takes these rows: --chat-template {names}."
    hint = f"Use a template that shows everything: --chat-template {names}."
    keys = dict.fromkeys(place.key for place in error.fields)
    spared = [key for key in keys if key not in ("content", "tool_calls")]
    return hint + (f" To train without: --ignore-fields {','.join(spared)}" if spared else "")


def _takes(template: ChatTemplate, chat: Chat, train_on: str) -> bool:
    try:
        render_chat(template, chat, train_on)
    except TemplateError:
        return False
    return True


def _wanted_template(tokenizer: PreTrainedTokenizerBase, wanted: str) -> ChatTemplate:
    if wanted in NAMED:
        return _named(tokenizer, wanted)
    own = own_sources(tokenizer)
    if wanted in own and len(own) > 1:
        return _usable(template_from(tokenizer, own[wanted], wanted), f"chat_template {wanted}")
    file = Path(wanted).expanduser()
    if file.exists() and not file.is_file():
        raise DataError(f"chat_template {wanted}: not a file")
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        names = [*NAMED, *(own if len(own) > 1 else ())]
        near = difflib.get_close_matches(wanted, names, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise DataError(
            f"chat_template {wanted}: no file or built-in template with this name{hint}",
            hint=f"Choose one of {', '.join(names)}, none, or a file with a Jinja template.",
        ) from None
    except (OSError, ValueError):  # read_text says why
        pass
    template = template_from(tokenizer, read_text(file, DataError), file.name)
    return _usable(template, f"chat_template {wanted}")


def _usable(template: ChatTemplate, where: str) -> ChatTemplate:
    """The template if it can render a question and an answer; else a ``DataError``."""
    try:
        _ = template.end_of_turn
    except TemplateError as error:
        hint = f"Choose another: --chat-template with one of {', '.join(NAMED)}, or a file."
        raise DataError(f"{where}: {error}", hint=hint) from None
    return template


def _named(tokenizer: PreTrainedTokenizerBase, name: str) -> ChatTemplate:
    source = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    bos = "{{ bos_token }}" if adds_bos(tokenizer) else ""
    return template_from(tokenizer, bos + source, name)


def _marks_note(tokenizer: PreTrainedTokenizerBase, template: ChatTemplate) -> list[str]:
    if closes(tokenizer, template):
        return []
    end = template.end_of_turn
    what = f"{end!r} is not a token of this tokenizer" if end else "answers have no end mark"
    return [f"{what}, so the end-of-text token follows the last answer"]
