"""Ollama's Modelfile: what is run, how a chat is laid out, where an answer ends, how it is drawn.

Values stand between triple quotes, where Ollama's parser takes every character as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lorita.data.tokens.chat_template import TemplateError
from lorita.data.tokens.prompt_format import PromptFormat
from lorita.errors import SettingsError

PLAIN = "{{ .Prompt }}"
"""For a run on plain texts: the prompt as it is. Without it Ollama would take the base's layout."""


@dataclass(frozen=True)
class Sampling:
    """How Ollama draws, under transformers' names. Temperature 0 is greedy, as ``compare`` is."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.5

    def __post_init__(self) -> None:
        problems = [
            f"{name} = {value}: should be {rule}"
            for name, value, holds, rule in (
                ("temperature", self.temperature, self.temperature >= 0, "0 (greedy) or more"),
                ("top_k", self.top_k, (self.top_k or 0) >= 0, "0 (off) or more"),
                ("top_p", self.top_p, self.top_p is None or 0 < self.top_p <= 1, "within 0 and 1"),
                (
                    "repetition_penalty",
                    self.repetition_penalty,
                    self.repetition_penalty > 0,
                    "more than 0",
                ),
            )
            if not holds
        ]
        if problems:
            raise SettingsError(problems)

    def lines(self) -> list[str]:
        """Ollama's names; -1 lets the penalty see the whole context, as it does in lorita."""
        found: dict[str, object] = {"temperature": self.temperature}
        if self.top_k is not None:
            found["top_k"] = self.top_k
        if self.top_p is not None:
            found["top_p"] = self.top_p
        if self.repetition_penalty != 1.0:
            found |= {"repeat_penalty": self.repetition_penalty, "repeat_last_n": -1}
        return [f"PARAMETER {name} {value:g}" for name, value in found.items()]


@dataclass(frozen=True)
class Modelfile:
    """The parts of a Modelfile; ``str()`` is its text."""

    start: str
    """What FROM names: a GGUF file, or a model that Ollama has."""
    adapter: str | None
    template: str
    stops: Sequence[str]
    system: str | None
    sampling: Sampling
    comments: Sequence[str] = ()

    def __str__(self) -> str:
        lines = [f"# {line}" for line in self.comments]
        lines += ["", f"FROM {self.start}"]
        if self.adapter is not None:
            lines.append(f"ADAPTER {self.adapter}")
        lines += ["", f"TEMPLATE {_quoted('template', self.template)}"]
        if self.system:
            lines += ["", f"SYSTEM {_quoted('system message', self.system)}"]
        lines.append("")
        lines += [f"PARAMETER stop {_quoted('stop text', stop)}" for stop in self.stops]
        lines += self.sampling.lines()
        return "\n".join(lines).lstrip("\n") + "\n"


def stop_texts(prompt_format: PromptFormat, stop_tokens: Sequence[str]) -> list[str]:
    """What ends an answer, as texts: the run's stop tokens and the template's own marks."""
    template = prompt_format.template
    try:
        marks = [template.end_of_turn, template.inner_end] if template is not None else []
    except TemplateError:  # it shows no answer as it is: its layout was written by hand
        marks = []
    return list(dict.fromkeys(text.strip() for text in [*marks, *stop_tokens] if text.strip()))


def _quoted(what: str, text: str) -> str:
    """``text`` between triple quotes; ``SettingsError`` where it holds them itself."""
    if '"""' in text:
        raise SettingsError(f'the {what} holds """, which a Modelfile cannot hold')
    return f'"""{text}"""'
