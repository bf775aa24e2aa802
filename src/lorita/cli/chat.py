"""``lorita chat``: a chat with a run or a base model in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lorita.cli.options import (
    LIKELIEST,
    BasePlace,
    Dtype,
    Length,
    Penalty,
    SamplingFlags,
    TrustCode,
)
from lorita.cli.say import Words, say, tell
from lorita.cli.waiting import waiting

if TYPE_CHECKING:
    from lorita.inference.conversation import Conversation
    from lorita.inference.tuned_model import TunedModel
    from lorita.training.events import OnEvent

HELP = "/reset clears the conversation, /exit or Ctrl-D quits, Ctrl-C stops an answer."


def command(
    run_or_model: Annotated[str, Parameter(help="Run folder, or base model.")],
    /,
    *,
    system: Annotated[
        str | None, Parameter(help="System message. Default: that of the training rows.")
    ] = None,
    max_new_tokens: Length = 256,
    repetition_penalty: Penalty = None,
    sampling: SamplingFlags = LIKELIEST,
    dtype: Dtype = "auto",
    base: BasePlace = None,
    trust_remote_code: TrustCode = False,
) -> None:
    """Chat with a run or a base model in the terminal.

    Answers appear word by word. If standard input is not a terminal, each of its lines is a
    question.
    """
    from lorita.inference.options import GenerationOptions

    options = GenerationOptions(max_new_tokens, repetition_penalty, **asdict(sampling))
    options.warn_of_unused()
    with waiting() as show:
        from lorita.inference.conversation import Conversation

        tuned = _load(run_or_model, base, dtype, trust_remote_code, show)
        talk = Conversation(tuned, options, system)
    if sys.stdin.isatty():
        tell(HELP)
        if not talk.remembers:
            tell("No chat template: each line is continued by itself.")
    for line in _lines():
        if line == "/exit":
            return
        if line == "/help":
            say(HELP)
        elif line == "/reset":
            talk.reset()
        elif line.strip():
            _answer(talk, line)


def _load(name: str, base: str | None, dtype: str, trust: bool, on_event: OnEvent) -> TunedModel:
    """A run as it was trained; anything else through its own chat template, if it has one."""
    from dataclasses import replace

    from lorita.data.tokens.choose_template import choose_template
    from lorita.data.tokens.prompt_format import PromptFormat
    from lorita.inference.load import open_model
    from lorita.inference.resolve import resolve
    from lorita.training.events import PhaseStarted

    resolved = resolve(name, base, trust_remote_code=trust)
    on_event(PhaseStarted(f"Loading {resolved.base.name}"))
    tuned = open_model(resolved, dtype)
    known = resolved.record is not None or tuned.prompt_format.template is not None
    if known or tuned.tokenizer.chat_template is None:
        return tuned
    template, _ = choose_template(tuned.tokenizer, None, "chat")
    return replace(tuned, prompt_format=PromptFormat("chat", template))


def _lines() -> Iterator[str]:
    """The lines that are typed, or those of standard input, to the end."""
    if not sys.stdin.isatty():
        yield from (line.rstrip("\n") for line in sys.stdin)
        return
    with suppress(ImportError):
        import readline  # noqa: F401  (arrow keys and history in input())
    while True:
        try:
            yield input("> ")
        except EOFError:
            say("")
            return
        except KeyboardInterrupt:  # meant for an answer that had just ended
            say("")


def _answer(talk: Conversation, line: str) -> None:
    from lorita.errors import SettingsError

    before, words = talk.forgotten, Words()
    try:
        with closing(talk.say(line)) as pieces:  # type: ignore[type-var]
            for piece in pieces:
                words.write(piece)
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
        words.end("…")
    except SettingsError as error:
        tell(error)
        if not sys.stdin.isatty():
            say("")  # as many lines of answers as of questions
    else:
        words.end("…" if talk.cut and sys.stdout.isatty() else "")
        if talk.cut:
            most = talk.options.max_new_tokens
            tell(f"(The answer was cut at {most} tokens; --max-new-tokens allows longer ones.)")
    if talk.forgotten > before:
        tell("(The oldest turns no longer fit and were dropped.)")
