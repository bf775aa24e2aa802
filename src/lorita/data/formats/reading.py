"""One way to read columns: which column feeds which role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from shlex import quote


@dataclass(frozen=True)
class Reading:
    """One way to read the columns: a column for each role, or a template over columns.

    ``note`` is what must be said about this reading; ``ignored`` are keys of messages that the user
    wants to be left out.
    """

    format: str
    roles: Mapping[str, str] = field(default_factory=dict)
    template: str | None = None
    note: str = ""
    ignored: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.template is not None:
            return f"text from the template {self.template!r}"
        if self.format == "text":
            return f"text from the column {self.roles['text']!r}"
        main = {role: column for role, column in self.roles.items() if role != column}
        columns = ", ".join(f"{role} {column!r}" for role, column in main.items())
        same = ", ".join(repr(column) for role, column in self.roles.items() if role == column)
        return f"{self.format} from {', '.join(part for part in (same, columns) if part)}"

    @property
    def flags(self) -> str:
        """The command-line options that select this reading."""
        if self.format == "text":
            return f"--text-field {quote(self.roles['text'])}"
        if self.format == "prompt-completion":
            return (
                f"--prompt-field {quote(self.roles['prompt'])} "
                f"--completion-field {quote(self.roles['completion'])}"
            )
        if self.format in ("messages", "sharegpt"):
            return f"--messages-field {quote(str(self.chat_column))}"
        return f"--format {self.format}"

    @property
    def chat_column(self) -> str | None:
        """The column of chats; None if the rows are not chats in one column."""
        return self.roles.get("messages") or self.roles.get("conversations")
