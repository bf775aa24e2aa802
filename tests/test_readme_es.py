"""README.es.md covers what README.md covers: the same commands, code, links and output."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENGLISH, SPANISH = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.es.md")
)
PLACEHOLDERS = {"ARCHIVO": "FILE", "CARPETA": "FOLDER", "MODELO": "MODEL"}


def commands(text: str) -> list[str]:
    """What the tables print in backticks."""
    rows = "\n".join(line for line in text.splitlines() if line.startswith("| "))
    for spanish, english in PLACEHOLDERS.items():
        rows = rows.replace(spanish, english)
    return re.findall(r"`([^`]+)`", rows)


def blocks(text: str) -> list[str]:
    """The code blocks without their comments."""
    found = re.findall(r"^```\w*\n(.*?)^```$", text, re.M | re.S)
    return [re.sub(r" *# .*", "", block) for block in found]


def links(text: str) -> set[str]:
    return set(re.findall(r"\]\(([^)]+)\)", text)) - {"README.md", "README.es.md"}


def test_the_same_commands() -> None:
    assert commands(SPANISH) == commands(ENGLISH)


def test_the_same_code_and_output() -> None:
    assert blocks(SPANISH) == blocks(ENGLISH)


def test_the_same_sections() -> None:
    """And one more: what LoRA is."""
    assert SPANISH.count("\n## ") == ENGLISH.count("\n## ") + 1


def test_what_spanish_readers_need_beside_the_commands() -> None:
    for part in ("git clone", "ollama run", "export gguf", "perplejidad", "--language es"):
        assert part in SPANISH


def test_the_same_links() -> None:
    assert links(SPANISH) == links(ENGLISH)
