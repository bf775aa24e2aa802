"""The command line: one file per command; each parses, calls one public function and renders.

``main`` turns what a command raises into a message and an exit code: 0 done, 1 the run failed,
2 the user's mistake, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from cyclopts import App, CycloptsError

from lorita import __version__

COMMANDS = {
    "demo": "Train the bundled model on bundled prompts; see before and after.",
    "preview": "Show how the data is understood, token by token.",
    "train": "Train a LoRA adapter on a list of texts.",
    "sweep": "Train several settings on one base and say which is best.",
    "plan": "Count parameters and sizes before anything is spent.",
    "targets": "List the modules of a model that a LoRA can go on.",
    "generate": "Write text with a base model or a run.",
    "chat": "Talk to a run or a base model in the terminal.",
    "evaluate": "Measure what a run learned, forgot and memorised.",
    "compare": "Show base and tuned model side by side.",
    "push": "Upload a run to the Hugging Face hub.",
    "merge": "Put an adapter into its base: one plain model folder.",
    "export": "Take a run to another program.",
    "doctor": "Show what this machine can do and what lorita will choose.",
}
"""Command: its line in the help. Each lives in the module of the same name."""


def make_app() -> App:
    """The application; a command's module is imported only when the command is used."""
    app = App(
        name="lorita",
        help="LoRA fine-tuning on the machine you already have.",
        version=f"lorita {__version__}",
        help_format="plaintext",
        result_action="return_value",
    )
    for name, help_text in COMMANDS.items():
        app.command(f"lorita.cli.{name}:command", name=name, help=help_text)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return the exit code."""
    tokens = list(arguments) or ["--help"]
    if tokens[0] in ("train", "plan", "preview", "sweep"):
        from lorita.cli.options import canonical_flags

        tokens = canonical_flags(tokens)
    try:
        make_app()(tokens, exit_on_error=False, print_error=False)
        return 0
    except CycloptsError as error:
        return _fail(_usage_message(error, tokens), 2)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:  # `lorita … | head`
        sys.stderr.close()
        return 0
    except Exception as error:
        errors = import_module("lorita.errors")
        if isinstance(error, errors.LoritaError):
            return _fail(str(error), error.exit_code)
        raise


def _usage_message(error: CycloptsError, tokens: Sequence[str]) -> str:
    message = str(error).strip().replace("\n", " ")
    command = tokens[0] if tokens[0] in COMMANDS else None
    return f"{message}\nSee: lorita {command + ' ' if command else ''}--help"


def _fail(message: str, code: int) -> int:
    label = "Interrupted" if code == 130 else "Error"
    separator = "\n" if "\n" in message and message.startswith("- ") else " "
    print(f"{label}:{separator}{message}", file=sys.stderr)
    return code
