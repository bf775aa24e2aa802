"""Choose a chat template: the tokenizer's own, a built-in one by name, or a file.

The built-in templates are in ``chat_templates/``. They are written without a beginning-of-text
token; it is put in front if the tokenizer itself would add it, so that it appears exactly once.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.data.tokens.chat_template import ChatTemplate, TemplateError
from lorita.data.tokens.encoder import adds_bos
from lorita.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FOLDER = Path(__file__).parent / "chat_templates"
NAMED = ("chatml", "llama3", "gemma", "mistral", "alpaca", "zephyr")
FOR_BASE_MODELS = "chatml"
NONE = "none"
"""The value of ``chat_template`` that switches templates off."""


def choose_template(
    tokenizer: PreTrainedTokenizerBase, wanted: str | None, kind: str
) -> tuple[ChatTemplate | None, list[str]]:
    """The template for rows of a kind (None: rows are used as is), and notes about the choice.

    ``wanted`` is a name, a file or ``none``; None chooses by itself. Raises ``DataError`` if the
    template is missing or broken, or if chats are to be used without one.
    """
    own = own_template(tokenizer)
    if kind == "text":
        unused = wanted not in (None, NONE)
        return None, ["the chat template is not used: the rows are plain text"] if unused else []
    if wanted == NONE:
        if kind == "chat":
            raise DataError("chat_template none: chats cannot be trained without a template")
        return None, []
    if wanted is not None:
        found = _wanted_template(tokenizer, wanted)
        return found, [f"chat template: {found.name}", *_marks_note(tokenizer, found)]
    if own is not None:
        return _usable(own, "the tokenizer's chat template"), ["chat template: the tokenizer's own"]
    if kind == "pair":
        return None, []
    found = _named(tokenizer, FOR_BASE_MODELS)
    note = f"the tokenizer has no chat template: {FOR_BASE_MODELS} is used (--chat-template)"
    return found, [note, *_marks_note(tokenizer, found)]


def own_template(tokenizer: PreTrainedTokenizerBase) -> ChatTemplate | None:
    """The tokenizer's own template, the one called ``default`` if it has several; None if none."""
    source = tokenizer.chat_template
    if isinstance(source, dict):
        source = source.get("default") or next(iter(source.values()), None)
    return ChatTemplate("own", source, _special(tokenizer)) if source else None


def template_from(
    tokenizer: PreTrainedTokenizerBase, source: str, name: str = "own"
) -> ChatTemplate:
    """A template from its source, with the tokenizer's special tokens."""
    return ChatTemplate(name, source, _special(tokenizer))


def _special(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    tokens = tokenizer.special_tokens_map.items()
    return {name: str(token) for name, token in tokens if isinstance(token, str)}


def _wanted_template(tokenizer: PreTrainedTokenizerBase, wanted: str) -> ChatTemplate:
    if wanted in NAMED:
        return _named(tokenizer, wanted)
    file = Path(wanted).expanduser()
    try:
        template = template_from(tokenizer, file.read_text(encoding="utf-8"), file.name)
    except FileNotFoundError:
        near = difflib.get_close_matches(wanted, NAMED, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise DataError(
            f"chat_template {wanted}: no file or built-in template with this name{hint}",
            hint=f"Choose one of {', '.join(NAMED)}, none, or a file with a Jinja template.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"chat_template {wanted}: cannot be read ({error})") from None
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


def closes(tokenizer: PreTrainedTokenizerBase, template: ChatTemplate) -> bool:
    """Whether the template ends the last answer with a special token, which can stop generation."""
    return _last_special(tokenizer, template.end_of_turn) is not None


def stop_tokens(tokenizer: PreTrainedTokenizerBase, template: ChatTemplate) -> set[int]:
    """The ids of the special tokens with which the template ends answers."""
    ends = (template.end_of_turn, template.inner_end)
    found = (_last_special(tokenizer, end) for end in ends)
    return {token for token in found if token is not None}


def _last_special(tokenizer: PreTrainedTokenizerBase, end: str) -> int | None:
    ids = list(tokenizer(end, add_special_tokens=False)["input_ids"]) if end else []
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return int(ids[-1]) if ids and ids[-1] in special else None
