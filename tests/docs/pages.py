"""Every command and snippet in the documentation, as a reader would copy it.

A command is a line of a fenced block without a language, or ``code in a line`` that begins with the
name of a program. A snippet is a fenced block of Python. What stands in a block after a line that
begins with ``$`` is what its command prints.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = (
    "lorita", "make", "pip", "pytest", "python", "torchrun", "accelerate", "ollama", "vllm",
    "llama-server", "llama-cli", "llama-quantize", "hf", "git", "cd", "cat", "zcat",
)  # fmt: skip
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)", re.DOTALL)
_ASSIGNMENT = re.compile(r"[A-Z_]+=\S+")


@dataclass(frozen=True)
class Piece:
    """Something to run: a shell ``command``, a Python snippet, or a YAML file to save.

    ``output`` is what the page shows below the command; ``fenced`` is False for code in a line.
    """

    page: str
    line: int
    kind: str
    text: str
    output: str = ""
    fenced: bool = True

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def pages() -> list[Path]:
    """The pages that are checked: both read-me files, the documentation, and how to contribute."""
    names = ("README.md", "README.es.md", "CONTRIBUTING.md", "SECURITY.md")
    return [*(ROOT / name for name in names), *sorted((ROOT / "docs").glob("*.md"))]


def pieces(page: Path) -> list[Piece]:
    """What a page tells its reader to run, in the order of the page."""
    text = page.read_text(encoding="utf-8")
    return pieces_of(text, page.relative_to(ROOT).as_posix())


def pieces_of(text: str, name: str) -> list[Piece]:
    """As ``pieces``, for a text that was made elsewhere, such as a model card."""
    found: list[Piece] = []
    fenced = list(_FENCE.finditer(text))
    for block in fenced:
        line = text.count("\n", 0, block.start()) + 2
        if block[1] in ("python", "yaml"):
            found.append(Piece(name, line, block[1], block[2]))
        elif not block[1]:
            found += _commands(block[2], name, line)
    outside = text
    for block in fenced:
        outside = outside.replace(block[0], "\n" * block[0].count("\n"))
    for code in _INLINE.finditer(outside):
        command = " ".join(code[1].replace(r"\|", "|").split())
        if is_command(command):
            line = outside.count("\n", 0, code.start()) + 1
            found.append(Piece(name, line, "shell", command, fenced=False))
    return sorted(found, key=lambda piece: piece.line)


def is_command(text: str) -> bool:
    """Whether a text is more than the name of a program: one with arguments."""
    words = text.split()
    while words and _ASSIGNMENT.fullmatch(words[0]):
        words = words[1:]
    return len(words) > 1 and words[0] in PROGRAMS


def _commands(block: str, page: str, line: int) -> Iterator[Piece]:
    """The commands of a block; a line that ends with a backslash goes on in the next one."""
    command, output, start = "", [], line
    shown = re.match(r"\$ ", block) is not None
    for number, text in enumerate(block.splitlines(), line):
        if command.endswith("\\"):
            command = f"{command[:-1].rstrip()} {text.strip()}"
        elif is_command(text.removeprefix("$ ")) and (text.startswith("$ ") or not shown):
            if command:
                yield Piece(page, start, "shell", command, "\n".join(output))
            command, output, start = text.removeprefix("$ "), [], number
        elif command:
            output.append(text)
    if command:
        yield Piece(page, start, "shell", command, "\n".join(output))


def program(command: str) -> str:
    """The program that a command starts, without settings of its environment."""
    words = shlex.split(command, comments=True)
    return next(word for word in words if not _ASSIGNMENT.fullmatch(word))
