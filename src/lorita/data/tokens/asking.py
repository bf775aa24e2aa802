"""Make what generation puts before an answer equal to what training has there.

Templates of reasoning models often differ: the generation prompt opens a block of reasoning, or
closes an empty one, where a finished answer without reasoning has none. If the template has a
switch for that (``enable_thinking``), it is set; otherwise what the prompt adds is taken away. The
result is a template of its own, which is saved with the run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from lorita.data.rows import Chat
from lorita.data.tokens.chat_template import ChatTemplate, TemplateError
from lorita.data.tokens.masks import AskedOtherwise, render_chat

SWITCHES = ("enable_thinking", "thinking")
_OPENING = re.compile(r"\s*(<think>|\[THINK\])(\s*(</think>|\[/THINK\]))?\s*")
_BLOCKS = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")


def ask_alike(template: ChatTemplate, chats: Sequence[Chat]) -> tuple[ChatTemplate, list[str]]:
    """The template, changed if generation would otherwise ask differently for these answers.

    The second part says what was changed, if anything.
    """
    wrong = _asked_otherwise(template, chats)
    if not wrong:
        return template, []
    found, said = min(_variants(template, chats), key=lambda v: _asked_otherwise(v[0], chats))
    if _asked_otherwise(found, chats) >= wrong:
        return template, []
    return found, [said]


def _asked_otherwise(template: ChatTemplate, chats: Sequence[Chat]) -> int:
    """In how many of the chats an answer does not stand where generation would put it."""
    count = 0
    for chat in chats:
        try:
            render_chat(template, chat, "assistant")
        except AskedOtherwise:
            count += 1
        except TemplateError:
            continue  # rejected for another reason, which is reported with its row
    return count


def _variants(template: ChatTemplate, chats: Sequence[Chat]) -> Iterator[tuple[ChatTemplate, str]]:
    """Templates that might ask as training does, and what is changed in them."""
    yield template, ""
    for name in SWITCHES:
        if re.search(rf"\b{name}\b", template.source):
            for value in ("false", "true"):
                yield _with_switch(template, name, value), f"chat template: {name} is {value}"
    for end in _endings(template, chats):
        said = f"chat template: the generation prompt ends without {end!r}, as the rows do"
        yield _without_ending(template, end), said


def _with_switch(template: ChatTemplate, name: str, value: str) -> ChatTemplate:
    return replace(template, source=f"{{% set {name} = {value} %}}{template.source}")


def _endings(template: ChatTemplate, chats: Sequence[Chat]) -> list[str]:
    """What the generation prompt adds before answers that do not have it."""
    found: dict[str, None] = {}
    for chat in chats:
        try:
            render_chat(template, chat, "assistant")
        except AskedOtherwise as error:
            if _OPENING.fullmatch(error.unasked):
                found[error.unasked] = None
        except TemplateError:
            continue
    return list(found)


def _without_ending(template: ChatTemplate, end: str) -> ChatTemplate:
    """The template with a generation prompt that leaves out its last characters, ``end``."""
    text = _BLOCKS.sub("", template.source).removesuffix("\n")
    quoted = "'" + end.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
    source = (
        f"{{% set rendered %}}\n{text}{{% endset %}}"
        f"{{{{ rendered[:-{len(end)}] if add_generation_prompt and rendered.endswith({quoted}) "
        "else rendered }}"
    )
    return replace(template, source=source)
