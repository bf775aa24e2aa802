"""The chat templates of a tokenizer, and the tokens with which a template ends answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorita.data.tokens.chat_template import ChatTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FOR_TOOLS = "tool_use"
"""What tokenizers with several templates call the one for chats with tools."""


def own_template(tokenizer: PreTrainedTokenizerBase) -> ChatTemplate | None:
    """The tokenizer's own template, the one called ``default`` if it has several; None if none.

    Chats with tools are given its template for tools, as transformers does.
    """
    sources = own_sources(tokenizer)
    source = sources.get("default") or next(iter(sources.values()), None)
    if not source:
        return None
    special, tools = _special(tokenizer), sources.get(FOR_TOOLS)
    for_tools = ChatTemplate(f"own, {FOR_TOOLS}", tools, special) if tools else None
    return ChatTemplate("own", source, special, for_tools)


def own_sources(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """The sources of the tokenizer's templates, by name."""
    source = tokenizer.chat_template
    return source if isinstance(source, dict) else {"default": source} if source else {}


def template_from(
    tokenizer: PreTrainedTokenizerBase, source: str, name: str = "own", tools: str | None = None
) -> ChatTemplate:
    """A template from its source, with the tokenizer's special tokens.

    ``tools`` is the source of the template for chats with tools, if there is another.
    """
    special = _special(tokenizer)
    for_tools = ChatTemplate(f"{name}, {FOR_TOOLS}", tools, special) if tools else None
    return ChatTemplate(name, source, special, for_tools)


def saved_sources(template: ChatTemplate) -> str | dict[str, str]:
    """What a tokenizer's ``chat_template`` has to be for others to use the template as it was."""
    if template.for_tools is None:
        return template.source
    return {"default": template.source, FOR_TOOLS: template.for_tools.source}


def _special(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    tokens = tokenizer.special_tokens_map.items()
    return {name: str(token) for name, token in tokens if isinstance(token, str)}


def closes(tokenizer: PreTrainedTokenizerBase, template: ChatTemplate) -> bool:
    """Whether the template ends the last answer with a special token, which can stop generation."""
    return _last_special(tokenizer, template.end_of_turn) is not None


def stop_tokens(tokenizer: PreTrainedTokenizerBase, template: ChatTemplate) -> set[int]:
    """The ids of the special tokens with which the template ends answers."""
    used = [t for t in (template, template.for_tools) if t is not None]
    ends = {end for t in used for end in (t.end_of_turn, t.inner_end)}
    found = (_last_special(tokenizer, end) for end in ends)
    return {token for token in found if token is not None}


def _last_special(tokenizer: PreTrainedTokenizerBase, end: str) -> int | None:
    ids = list(tokenizer(end, add_special_tokens=False)["input_ids"]) if end else []
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return int(ids[-1]) if ids and ids[-1] in special else None
