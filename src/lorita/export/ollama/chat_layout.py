"""A chat template in Go's template language, found by asking the Jinja one what it writes.

Jinja is a programming language and is not translated. Instead the template renders chats whose
contents are marks; what stands between two marks is what it writes between two turns. Where that
depends on the two roles alone, a Go template can say it. The result is rendered beside the
original on ten chats, and refused unless all are equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lorita.data.tokens.chat_template import ChatTemplate, TemplateError
from lorita.errors import UserError
from lorita.export.ollama.go_template import go_string, render_go

Turns = Sequence[tuple[str, str]]
START, END = "start", "end"
_ASKED = ("U", "UAU", "UAUAU", "SU", "SUAU", "SUAUAU")
"""Chats by the first letters of their roles; the rest may be refused, the first two may not."""
_ROLES = {"S": "system", "U": "user", "A": "assistant"}

CHATS: tuple[Turns, ...] = (
    (("user", "What is the capital of France?"),),
    (("system", "You answer in one word."), ("user", "The capital of France?")),
    (("user", "Hi"), ("assistant", "Hello! How can I help?"), ("user", "Tell me a joke.")),
    (
        ("system", "You are a baker."),
        ("user", "Bread?"),
        ("assistant", "Two hundred grams of flour.\n\nAnd water."),
        ("user", "And then?"),
    ),
    (("user", "¿Qué hay, señora? 你好 🦜"), ("assistant", "¡Hola! ñandú"), ("user", "Adiós")),
    (("user", 'print("{{ .Content }}")\nif x:\n\treturn "{% end %}"'),),
    (("system", 'Say "yes" or \\no\\.\nNothing else.'), ("user", "<b>1 & 2</b> 'ok'?")),
    tuple((("user", "assistant")[i % 2], f"turn {i}") for i in range(7)),
    (("system", "s"), *((("user", "assistant")[i % 2], f"turn {i}") for i in range(5))),
    (("user", "a" * 300), ("assistant", "1. one\n2. two\n- three"), ("user", "#### four")),
)
"""Ten chats that end with a question: the everyday check renders them with both templates."""


class NotDerivable(UserError):
    """The chat template cannot be said in Go's template language."""


@dataclass(frozen=True)
class GoLayout:
    """A Go template for Ollama, and what there is to say about it."""

    source: str
    notes: tuple[str, ...] = ()


def derive_layout(template: ChatTemplate, *, bos: str = "") -> GoLayout:
    """The Go template that writes what ``template`` writes for chats that end with a question.

    ``bos`` is the beginning-of-text token where the runner puts it in front itself: it is left out
    here, so that it stands there once. Raises ``NotDerivable`` with the reason and the way round.
    """
    between, refused = _transitions(template, bos)
    notes = []
    if (START, "system") not in between:
        notes.append(f"the chat template writes no system message{refused}: they are left out")
    layout = _written(between)
    _require_equal(template, layout, bos, with_system=(START, "system") in between)
    if _trims(template):
        notes.append(
            "the chat template cuts white space around messages; Go's language cannot: "
            "send messages without it"
        )
    if bos and not _plain(template, [("user", "x")]).startswith(bos):
        notes.append(f"Ollama puts {bos} in front by itself; the training rows had none")
    if "strftime_now" in template.source:
        notes.append("the chat template writes today's date; it stays that of the export")
    if "tools" in template.source:
        notes.append("tool calls of the chat template are not carried over")
    return GoLayout(layout, tuple(notes))


def chat_text(template: ChatTemplate, turns: Turns, *, bos: str = "") -> str:
    """What ``template`` writes for the turns, up to where the answer begins."""
    return _plain(template, turns).removeprefix(bos)


def _plain(template: ChatTemplate, turns: Turns) -> str:
    return template.prompt([{"role": role, "content": content} for role, content in turns])


def go_data(turns: Turns) -> dict[str, list[dict[str, str]]]:
    """The turns as Ollama hands them to a template."""
    return {"Messages": [{"Role": role, "Content": content} for role, content in turns]}


def _transitions(template: ChatTemplate, bos: str) -> tuple[dict[tuple[str, str], str], str]:
    """What is written between two turns, by their roles, and why system messages are refused."""
    found: dict[tuple[str, str], str] = {}
    refused = ""
    for letters in _ASKED:
        roles = [_ROLES[letter] for letter in letters]
        try:
            pieces = _pieces_between(template, roles, bos)
        except TemplateError as error:
            # A template may know no system message at all; one that knows it here and not there
            # puts it where a Go template cannot follow.
            if "S" not in letters or (START, "system") in found:
                raise _no_form(template, str(error)) from error
            refused = f" ({error})"
            continue
        for pair, piece in zip(_pairs(roles), pieces, strict=True):
            before = found.setdefault(pair, piece)
            if before != piece:
                places = f"from {pair[0]} to {pair[1]} it writes {before!r} in one chat"
                raise _no_form(template, f"{places} and {piece!r} in another")
    return found, refused


def _no_form(template: ChatTemplate, reason: str) -> NotDerivable:
    return NotDerivable(
        f"{_named(template)} has no form in Ollama's language: {reason}", hint=_HINT
    )


_HINT = (
    "Ways round: train with a simpler layout (--chat-template chatml); export the GGUF alone and "
    "run it with llama.cpp, which reads the chat template itself (--jinja); or write TEMPLATE by "
    "hand and give it with --template FILE."
)


def _named(template: ChatTemplate) -> str:
    own = template.name == "own"
    return "the tokenizer's chat template" if own else f"the chat template {template.name}"


def _pairs(roles: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip([START, *roles], [*roles, END], strict=True))


def _pieces_between(template: ChatTemplate, roles: Sequence[str], bos: str) -> list[str]:
    """The rendered chat cut at its marks; ``TemplateError`` unless each is there once, in order."""
    marks = [f"\ue000{role}{number}\ue001" for number, role in enumerate(roles)]
    rest = _plain(template, list(zip(roles, marks, strict=True))).removeprefix(bos)
    pieces = []
    for mark, role in zip(marks, roles, strict=True):
        piece, there, rest = rest.partition(mark)
        if not there or mark in rest:
            raise TemplateError(f"it does not write each {role} message once and in its place")
        pieces.append(piece)
    return [*pieces, rest]


def _written(between: Mapping[tuple[str, str], str]) -> str:
    """The transitions as a Go template: every literal is a quoted constant, so that white space
    in the file means nothing."""
    lines = ['{{- $before := "" -}}', "{{- range .Messages -}}"]
    word = "if"
    for role in ("system", "user", "assistant"):
        froms = {before: text for (before, to), text in between.items() if to == role}
        if not froms:
            continue
        lines.append(f'  {{{{- {word} eq .Role "{role}" -}}}}')
        lines += [f"    {line}" for line in _by_role_before(froms)]
        lines += ["    {{- .Content -}}", f'    {{{{- $before = "{role}" -}}}}']
        word = "else if"
    lines += ["  {{- end -}}", "{{- end -}}"]
    end = between[("user", END)]
    lines += ['{{- if eq $before "user" -}}', f"  {{{{- {go_string(end)} -}}}}", "{{- end -}}"]
    return "\n".join(line for line in lines if line.strip() != '{{- "" -}}') + "\n"


def _by_role_before(froms: Mapping[str, str]) -> list[str]:
    """What comes before a message: one constant, or one for each role before it."""
    texts = list(dict.fromkeys(froms.values()))
    if len(texts) == 1:
        return [f"{{{{- {go_string(texts[0])} -}}}}"]
    lines, word = [], "if"
    for text in texts:
        roles = [go_string("" if role == START else role) for role, t in froms.items() if t == text]
        condition = f"eq $before {' '.join(roles)}"
        if text == texts[-1]:
            lines.append("{{- else -}}")
        else:
            lines.append(f"{{{{- {word} {condition} -}}}}")
        lines.append(f"  {{{{- {go_string(text)} -}}}}")
        word = "else if"
    return [*lines, "{{- end -}}"]


def _require_equal(template: ChatTemplate, layout: str, bos: str, *, with_system: bool) -> None:
    """``NotDerivable`` unless both templates write the same for all chats."""
    for turns in CHATS:
        shown = turns if with_system else [turn for turn in turns if turn[0] != "system"]
        try:
            wanted = chat_text(template, shown, bos=bos)
        except TemplateError as error:
            raise _no_form(template, str(error)) from error
        got = render_go(layout, go_data(turns))
        if got != wanted:
            raise _no_form(template, f"it writes {wanted!r}, what was derived from it {got!r}")


def _trims(template: ChatTemplate) -> bool:
    turns = [("user", " x "), ("assistant", " y "), ("user", " z ")]
    text = _plain(template, turns)
    return any(content not in text for _, content in turns)
