"""Derives a chat template in Go's template language from a Jinja one, by observing its output.

Jinja is a programming language, so it is not translated. Instead, the template renders chats whose
messages are marks: the text between two marks is what it writes between two turns. If that depends
only on the roles of the two turns, a Go template can express it. The result must render ten test
chats exactly as the original does; otherwise it is refused.
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
"""Chats to observe, as the first letters of their roles. The template may refuse a system message,
but no other chat."""
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
"""Ten chats that end with a question; both templates must render them alike."""


class NotDerivable(UserError):
    """The chat template cannot be expressed in Go's template language."""


@dataclass(frozen=True)
class GoLayout:
    """A Go template for Ollama, and notes for the user."""

    source: str
    notes: tuple[str, ...] = ()


def derive_layout(template: ChatTemplate, *, bos: str = "") -> GoLayout:
    """The Go template that renders chats that end with a question as ``template`` does.

    ``bos`` is the beginning-of-text token if Ollama adds it by itself: it is omitted here, so that
    it is not duplicated. Raises ``NotDerivable`` with the reason and possible workarounds.
    """
    between, refused = _transitions(template, bos)
    notes = []
    if (START, "system") not in between:
        notes.append(
            f"the chat template writes no system message{refused}: Ollama will ignore them"
        )
    layout = _written(between)
    _require_equal(template, layout, bos, with_system=(START, "system") in between)
    if _trims(template):
        notes.append(
            "the chat template strips white space around messages, which Ollama's templates "
            "cannot do: send messages without it"
        )
    if bos and not _plain(template, [("user", "x")]).startswith(bos):
        notes.append(f"Ollama adds {bos} at the start; the training rows had none")
    if "strftime_now" in template.source:
        notes.append("the chat template writes today's date; the export keeps the date it was made")
    if "tools" in template.source:
        notes.append("tool calls of the chat template are not supported")
    return GoLayout(layout, tuple(notes))


def chat_text(template: ChatTemplate, turns: Turns, *, bos: str = "") -> str:
    """What ``template`` writes for the turns, up to the start of the answer, without ``bos``."""
    return _plain(template, turns).removeprefix(bos)


def _plain(template: ChatTemplate, turns: Turns) -> str:
    return template.prompt([{"role": role, "content": content} for role, content in turns])


def go_data(turns: Turns) -> dict[str, list[dict[str, str]]]:
    """The turns as Ollama passes them to a template."""
    return {"Messages": [{"Role": role, "Content": content} for role, content in turns]}


def _transitions(template: ChatTemplate, bos: str) -> tuple[dict[tuple[str, str], str], str]:
    """The text between two turns, by their roles, and the reason if system messages are refused."""
    found: dict[tuple[str, str], str] = {}
    refused = ""
    for letters in _ASKED:
        roles = [_ROLES[letter] for letter in letters]
        try:
            pieces = _pieces_between(template, roles, bos)
        except TemplateError as error:
            # A template may reject every system message. One that accepts it in some chats only
            # cannot be expressed.
            if "S" not in letters or (START, "system") in found:
                raise _no_form(template, str(error)) from error
            refused = f" ({error})"
            continue
        for pair, piece in zip(_pairs(roles), pieces, strict=True):
            before = found.setdefault(pair, piece)
            if before != piece:
                places = f"between {pair[0]} and {pair[1]} it writes {before!r} in one chat"
                raise _no_form(template, f"{places} and {piece!r} in another")
    return found, refused


def _no_form(template: ChatTemplate, reason: str) -> NotDerivable:
    return NotDerivable(
        f"{_named(template)} cannot be expressed in Ollama's template language: {reason}",
        hint=_HINT,
    )


_HINT = (
    "You can train with a simpler template (--chat-template chatml), export a GGUF file and run it "
    "with llama.cpp, which reads the chat template itself (--jinja), or write the template by hand "
    "(--template FILE)."
)


def _named(template: ChatTemplate) -> str:
    own = template.name == "own"
    return "the tokenizer's chat template" if own else f"the chat template {template.name}"


def _pairs(roles: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip([START, *roles], [*roles, END], strict=True))


def _pieces_between(template: ChatTemplate, roles: Sequence[str], bos: str) -> list[str]:
    """The rendered chat split at its marks; ``TemplateError`` unless each occurs once, in order."""
    marks = [f"\ue000{role}{number}\ue001" for number, role in enumerate(roles)]
    rest = _plain(template, list(zip(roles, marks, strict=True))).removeprefix(bos)
    pieces = []
    for mark, role in zip(marks, roles, strict=True):
        piece, there, rest = rest.partition(mark)
        if not there or mark in rest:
            raise TemplateError(f"it does not write each {role} message once and in order")
        pieces.append(piece)
    return [*pieces, rest]


def _written(between: Mapping[tuple[str, str], str]) -> str:
    """The transitions as a Go template.

    Every literal is a quoted constant, so that white space in the template has no meaning.
    """
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
    """The text before a message: one constant, or one for each role that may precede it."""
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
    """Raise ``NotDerivable`` unless both templates render all ``CHATS`` alike."""
    for turns in CHATS:
        shown = turns if with_system else [turn for turn in turns if turn[0] != "system"]
        try:
            wanted = chat_text(template, shown, bos=bos)
        except TemplateError as error:
            raise _no_form(template, str(error)) from error
        got = render_go(layout, go_data(turns))
        if got != wanted:
            raise _no_form(template, f"it writes {wanted!r}, but the derived one writes {got!r}")


def _trims(template: ChatTemplate) -> bool:
    turns = [("user", " x "), ("assistant", " y "), ("user", " z ")]
    text = _plain(template, turns)
    return any(content not in text for _, content in turns)
