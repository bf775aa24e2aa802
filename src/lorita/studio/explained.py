"""What the page says about an error, whatever it is: never its traceback."""

from __future__ import annotations

import traceback

from markupsafe import Markup

from lorita.errors import LoritaError
from lorita.studio.html import joined
from lorita.studio.messages import language_remark, said
from lorita.studio.words import Told, Words
from lorita.system.memory import is_out_of_memory


def explained(words: Words, error: BaseException) -> str:
    """A message in a frame: a sentence of the page, and what lorita says about it."""
    if isinstance(error, Told):
        values = {name: value for name, value in error.values.items() if name != "detail"}
        return _framed(words, words(error.key, **values), str(error.values.get("detail", "")))
    if isinstance(error, LoritaError):
        return _framed(words, words("refused"), str(error))
    traceback.print_exception(error)  # for whoever runs the studio
    kind = "memory" if is_out_of_memory(error) else type(error).__name__
    return _framed(words, words("unexpected", what=kind))


def _framed(words: Words, text: str, detail: str = "") -> str:
    parts = [Markup('<div class="message" role="alert"><p>{}</p>').format(text)]
    if detail:
        parts.append(Markup("<pre>{}</pre>").format(said(words, detail)))
        parts.append(language_remark(words, [detail]))
    return joined([*parts, Markup("</div>")])
