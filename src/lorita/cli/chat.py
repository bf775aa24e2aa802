"""``lorita chat``: a chat with a run or a base model in the terminal."""

from __future__ import annotations

import os
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
    from lorita.inference.remote_conversation import RemoteConversation
    from lorita.inference.tuned_model import TunedModel
    from lorita.training.events import OnEvent

HELP = "/reset clears the conversation, /exit or Ctrl-D quits, Ctrl-C stops an answer."


def command(
    run_or_model: Annotated[
        str | None, Parameter(help="Run folder, or base model; with --url, the server's model.")
    ] = None,
    /,
    *,
    url: Annotated[
        str | None,
        Parameter(help="Address of a server that speaks OpenAI's API, such as lorita serve's."),
    ] = None,
    api_key: Annotated[
        str | None, Parameter(help="With --url: the server's key. Default: OPENAI_API_KEY.")
    ] = None,
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
    """Chat with a run, a base model or a server in the terminal.

    Answers appear word by word. If standard input is not a terminal, each of its lines is a
    question.
    """
    from lorita.inference.options import GenerationOptions

    options = GenerationOptions(max_new_tokens, repetition_penalty, **asdict(sampling))
    options.warn_of_unused()
    talk: Conversation | RemoteConversation
    if url is not None:
        _refuse_unused(base, dtype, trust_remote_code)
        from lorita.inference.remote_conversation import RemoteConversation

        key = api_key or os.environ.get("OPENAI_API_KEY") or None
        talk = RemoteConversation(url, run_or_model, key, options, system)
    else:
        with waiting() as show:
            from lorita.inference.conversation import Conversation

            name = _required(run_or_model, api_key)
            tuned = _load(name, base, dtype, trust_remote_code, show)
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


def _required(run_or_model: str | None, api_key: str | None) -> str:
    from lorita.errors import SettingsError

    if api_key is not None:
        raise SettingsError("api_key does nothing without --url")
    if run_or_model is None:
        raise SettingsError(
            "nothing to chat with", hint="Name a run folder or a base model, or a server: --url"
        )
    return run_or_model


def _refuse_unused(base: str | None, dtype: str, trust: bool) -> None:
    """The model is the server's, and so is how it is loaded."""
    from lorita.errors import SettingsError

    given = {"base": base is not None, "dtype": dtype != "auto", "trust_remote_code": trust}
    problems = [f"{name} does nothing with --url" for name, is_given in given.items() if is_given]
    if problems:
        raise SettingsError(problems)


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


def _answer(talk: Conversation | RemoteConversation, line: str) -> None:
    from lorita.errors import SettingsError

    before, words, is_empty = talk.forgotten, Words(), True
    try:
        with closing(talk.say(line)) as pieces:  # type: ignore[type-var]
            for piece in pieces:
                words.write(piece)
                is_empty = is_empty and not piece.strip()
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
        elif is_empty:
            tell("(The answer is empty: the model ended it at once.)")
    if talk.forgotten > before:
        tell("(The oldest turns no longer fit and were dropped.)")
