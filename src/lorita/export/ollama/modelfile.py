"""Ollama's Modelfile: the model, the chat template, where an answer ends, and sampling.

Values are enclosed in triple quotes, between which Ollama's parser takes every character literally.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lorita.data.tokens.chat_template import TemplateError
from lorita.data.tokens.prompt_format import TEXT_PENALTY, PromptFormat
from lorita.errors import SettingsError

PLAIN = "{{ .Prompt }}"
"""The template for a run on plain texts: the prompt as is. Without a template, Ollama would use the
base's."""


@dataclass(frozen=True)
class Sampling:
    """How Ollama samples, under transformers' names. Temperature 0 is greedy, like ``compare``.

    Raises ``SettingsError`` that lists every value out of range.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = TEXT_PENALTY

    def __post_init__(self) -> None:
        problems = [
            f"{name} = {value}: should be {rule}"
            for name, value, holds, rule in (
                ("temperature", self.temperature, self.temperature >= 0, "0 (greedy) or more"),
                ("top_k", self.top_k, (self.top_k or 0) >= 0, "0 (off) or more"),
                (
                    "top_p",
                    self.top_p,
                    self.top_p is None or 0 < self.top_p <= 1,
                    "greater than 0, at most 1",
                ),
                (
                    "repetition_penalty",
                    self.repetition_penalty,
                    self.repetition_penalty > 0,
                    "greater than 0",
                ),
            )
            if not holds
        ]
        if problems:
            raise SettingsError(problems)

    def lines(self) -> list[str]:
        """PARAMETER lines, with Ollama's names.

        The penalty is always stated: Ollama's own default is not 1. A ``repeat_last_n`` of -1
        applies it to the whole context, as lorita does.
        """
        found: dict[str, object] = {"temperature": self.temperature}
        if self.top_k is not None:
            found["top_k"] = self.top_k
        if self.top_p is not None:
            found["top_p"] = self.top_p
        found |= {"repeat_penalty": self.repetition_penalty, "repeat_last_n": -1}
        return [f"PARAMETER {name} {value:g}" for name, value in found.items()]


@dataclass(frozen=True)
class Modelfile:
    """The parts of a Modelfile; ``str()`` is its text."""

    start: str
    """The value of FROM: a GGUF file, or a model that Ollama has."""
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
    """The texts that end an answer: the run's stop tokens and the template's own marks."""
    template = prompt_format.template
    try:
        marks = [template.end_of_turn, template.inner_end] if template is not None else []
    except TemplateError:  # it does not write answers verbatim, so its layout was written by hand
        marks = []
    return list(dict.fromkeys(text.strip() for text in [*marks, *stop_tokens] if text.strip()))


def _quoted(what: str, text: str) -> str:
    """``text`` in triple quotes; ``SettingsError`` if it contains triple quotes itself."""
    if '"""' in text:
        raise SettingsError(f'the {what} contains """, which a Modelfile cannot represent')
    return f'"""{text}"""'
