"""The errors that lorita raises on purpose.

    LoritaError
    ├── UserError              the user can fix it; exit code 2
    │   ├── SettingsError      unknown, missing or impossible options
    │   ├── ModelError         the base model cannot be found, read or used
    │   ├── DataError          the data cannot be found, read or used
    │   ├── AdapterError       the LoRA options do not fit the model, or an adapter file is wrong
    │   └── OutputError        the output folder or file cannot be used
    ├── RunFailed              the run itself failed; exit code 1
    │   └── CheckFailed        it finished, but a check of its result failed
    └── Interrupted            stopped by the user; exit code 130

Any other exception is a bug in lorita. Python code sees it as it is; the command line says so in
one message, with exit code 1, and writes the traceback into a file (``lorita.cli.failures``).
"""

from __future__ import annotations

from collections.abc import Sequence


class LoritaError(Exception):
    """Base of all errors that lorita raises on purpose.

    ``problems`` holds every problem found, one string each; ``hint`` says what to do about them.
    ``str(error)`` is the message as the command line shows it.
    """

    exit_code = 1

    def __init__(self, problems: str | Sequence[str], *, hint: str | None = None) -> None:
        self.problems: list[str] = [problems] if isinstance(problems, str) else list(problems)
        self.hint = hint
        super().__init__(self.message())

    def message(self) -> str:
        """All problems, one per line, then the hint."""
        lines = (
            self.problems if len(self.problems) == 1 else [f"- {line}" for line in self.problems]
        )
        return "\n".join([*lines, self.hint] if self.hint else lines)


class UserError(LoritaError):
    """A mistake that the user can fix."""

    exit_code = 2


class SettingsError(UserError):
    """Unknown, missing or impossible options."""


class ModelError(UserError):
    """The base model cannot be found, read or used."""


class DataError(UserError):
    """The data cannot be found, read or used."""


class AdapterError(UserError):
    """The LoRA options do not fit the model, or an adapter file is wrong."""


class OutputError(UserError):
    """The output folder or file cannot be used."""


class RunFailed(LoritaError):
    """The run failed."""


class CheckFailed(RunFailed):
    """The run finished, but a check of its result failed."""


class Interrupted(LoritaError):
    """The user stopped the run."""

    exit_code = 130


class LoritaWarning(UserWarning):
    """Something that the user should know although the work goes on."""
