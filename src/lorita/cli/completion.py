"""``lorita completion``: the script with which a shell completes lorita's commands and flags."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from cyclopts import Parameter

from lorita.cli.say import say_exactly

Shell = Literal["bash", "zsh", "fish", "powershell"]


def command(
    shell: Annotated[Shell, Parameter(help="Your shell.")],
    /,
) -> None:
    """Print the script that completes commands, flags and choices in a shell.

    For bash, add this line to ~/.bashrc: eval "$(lorita completion bash)". docs/use.md has those
    of the other shells.
    """
    from lorita.cli import make_app

    script = make_app().generate_completion(prog_name="lorita", shell=shell)
    say_exactly(_with_files(script, shell))


def _with_files(script: str, shell: str) -> str:
    """The script, completing files where it has nothing better: models and data may be names.

    Without this it would complete nothing there, less than a shell does by itself.
    """
    if shell == "bash":
        return script.replace("\ncomplete -F ", "\ncomplete -o default -F ")
    if shell == "zsh":  # '--model[...]:model' and '1:Settings file ...' without an action
        return re.sub(
            r"^( +'(?:\*?--[^']*\]|\d):[^':]+)(' \\)$", r"\1:_files\2", script, flags=re.M
        )
    return script
