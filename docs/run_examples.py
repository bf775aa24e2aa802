"""Fill in what the commands in a page print: ``python docs/run_examples.py docs/data.md``.

A block that begins with ``$ lorita …`` is run in ``examples/``, at a hundred columns, and what it
prints replaces the rest of the block. ``tests/test_docs.py`` checks that nothing has changed.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"
BLOCK = re.compile(r"^```\n\$ (lorita .*)\n(?:.*\n)*?```$", re.MULTILINE)


def run(command: str) -> str:
    """What a command prints, without the white space at the ends of lines."""
    environment = {**os.environ, "COLUMNS": "100", "PYTHONUTF8": "1", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "lorita", *shlex.split(command)[1:]],
        cwd=EXAMPLES, env=environment, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr}")
    return "\n".join(line.rstrip() for line in done.stdout.rstrip().splitlines())


def filled(text: str) -> str:
    """A page with the output of its commands."""
    return BLOCK.sub(lambda block: f"```\n$ {block[1]}\n{run(block[1])}\n```", text)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        page = Path(name)
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
