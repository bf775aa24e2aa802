"""The command line: one file per command; each parses, calls one workflow and shows the result.

``main`` turns what a command raises into a message and an exit code: 0 done, 1 the run failed,
2 the user's mistake, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cyclopts import App, CycloptsError, Group, Parameter

from lorita.cli.help import WHOLE_NAMES, full_help, shown_default
from lorita.cli.memory_gate import require_libraries
from lorita.cli.say import tell
from lorita.cli.streams import Unread, exit_code, guarded_streams
from lorita.system.processes import is_lead
from lorita.system.signals import STOPPED, Terminated, caused_by_signal, leave, watch_signals
from lorita.system.terminal_text import escaped_streams
from lorita.system.torchless import plan_without_torch

COMMANDS = {
    "demo": "Train the bundled model on bundled prompts and show the difference.",
    "preview": "Show how the data is understood, token by token.",
    "train": "Train a LoRA adapter.",
    "sweep": "Train with several settings and find the best.",
    "plan": "Show what a run would take: parameters, memory and time.",
    "targets": "List the modules of a model that LoRA can adapt.",
    "generate": "Generate text with a run or a base model.",
    "chat": "Chat with a run, a base model or a server in the terminal.",
    "serve": "Serve runs and their base over HTTP, as OpenAI's API.",
    "studio": "Train, compare and chat in a page in the browser.",
    "evaluate": "Measure what a run learned, forgot and memorised.",
    "compare": "Show answers of the base and the tuned model side by side.",
    "runs": "List the runs of a folder, or show one.",
    "report": "Make the page that shows a run, or compares several.",
    "push": "Upload a run to the Hugging Face Hub.",
    "merge": "Merge an adapter into its base model.",
    "export": "Export a run to other programs.",
    "doctor": "Show what this machine can do and what lorita will choose.",
    "completion": "Print the script that completes commands, flags and choices in a shell.",
}
"""Command: its line in the help. Each is in the module of the same name; ``export`` is a group."""

EXPORTS = {
    "gguf": "Write an adapter or a merged model as a GGUF file for llama.cpp.",
    "ollama": "Write a Modelfile and its GGUF file for Ollama.",
    "llama-server": "Write base and adapters with a start script for llama-server.",
}
"""Target: its line in the help of ``lorita export``. Each is in ``cli/export_TARGET.py``."""


def make_app(tokens: Sequence[str] = ()) -> App:
    """The application, for a command line of ``tokens``: only the used command is imported."""
    first, second = [*tokens[:2], "", ""][:2]
    app = _group("lorita", "LoRA fine-tuning on the machine you already have.", version=_version)
    export = _group("export", COMMANDS["export"], sort_key=list(COMMANDS).index("export"))
    for order, name in enumerate(COMMANDS):
        if name == "export":
            app.command(export)
        else:
            _add(app, f"lorita.cli.{name}", name, COMMANDS[name], order, used=name == first)
    for order, name in enumerate(EXPORTS):
        used = first == "export" and name == second
        _add(
            export,
            f"lorita.cli.export_{name.replace('-', '_')}",
            name,
            EXPORTS[name],
            order,
            used=used,
        )
    return app


def _group(name: str, text: str, **more: Any) -> App:
    return App(
        name=name,
        help=text,
        help_format="plaintext",
        help_formatter=WHOLE_NAMES,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        group_parameters=Group.create_default_parameters("Options"),
        default_parameter=Parameter(show_default=shown_default),
        **more,
    )


def _add(app: App, module: str, name: str, line: str, order: int, *, used: bool) -> None:
    """Register a command by the name of its module; its own help is the whole docstring."""
    text = full_help(module) if used else line
    app.command(f"{module}:command", name=name, help=text, sort_key=order)


def _version() -> str:
    from importlib.metadata import version

    return f"lorita {version('lorita')}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    watch_signals()
    plan_without_torch()  # only here: this process ends with the command
    try:
        code = _run_guarded(list(sys.argv[1:] if arguments is None else arguments))
    except (KeyboardInterrupt, Terminated):  # while the end was being reported
        code = _fail("interrupted", STOPPED)
    leave(code)


def _run_guarded(arguments: list[str]) -> int:
    """Run one command with streams that do not fail; its exit code."""
    command = arguments[0] if arguments else ""
    with guarded_streams(command) as guard:
        code = 0
        try:
            code = run(arguments)
            sys.stdout.flush()
        except (SystemExit, Unread):  # rich exits where it cannot print
            if guard is None or guard.failed is None:
                raise
        return exit_code(code, command, guard)


@escaped_streams()
def run(arguments: Sequence[str]) -> int:
    """Run one command and return the exit code."""
    tokens = list(arguments) or ["--help"]
    try:
        if tokens[0] in ("train", "plan", "preview", "sweep"):
            from lorita.cli.options import canonical_flags

            tokens = canonical_flags(tokens)
        elif tokens[0] == "evaluate" and "-" in tokens:
            from lorita.cli.options import joined_hyphens

            tokens = joined_hyphens(tokens)
        if not {"--help", "-h", "--version"} & set(tokens):
            require_libraries(tokens[0])
        with _own_warnings_shown():
            make_app(tokens)(tokens, exit_on_error=False, print_error=False)
        return 0
    except CycloptsError as error:
        return _fail(_usage_message(error, tokens), 2)
    except (KeyboardInterrupt, Terminated):
        return _fail("interrupted", STOPPED)
    except Unread:  # `lorita … | head`
        return 0
    except Exception as error:
        from lorita.cli.failures import unexpected
        from lorita.errors import LoritaError

        if caused_by_signal(error):
            return _fail("interrupted", STOPPED)
        if isinstance(error, LoritaError):
            return _fail(str(error), error.exit_code)
        return _fail(unexpected(error, tokens), 1)


@contextmanager
def _own_warnings_shown() -> Iterator[None]:
    """Warnings of lorita's own as a line like other messages; all others as Python shows them."""
    import warnings

    from lorita.errors import LoritaWarning

    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, LoritaWarning):
            tell(f"Warning: {message}")
        else:
            shown(message, category, *place, **more)

    with warnings.catch_warnings():
        warnings.simplefilter("always", LoritaWarning)
        warnings.showwarning = show
        yield


def _usage_message(error: CycloptsError, tokens: Sequence[str]) -> str:
    message = str(error).strip().replace("\n", " ")
    words = [tokens[0]] if tokens[0] in COMMANDS else []
    words += [token for token in tokens[1:2] if words == ["export"] and token in EXPORTS]
    return f"{message}\nSee: {' '.join(['lorita', *words, '--help'])}"


def _fail(message: str, code: int) -> int:
    if code == STOPPED:
        if is_lead():  # each of several processes is stopped, and one of them says so
            tell(message[:1].upper() + message[1:])
        return code
    separator = "\n" if "\n" in message and message.startswith("- ") else " "
    tell(f"Error:{separator}{message}")
    return code
