"""In which order test files are run by several workers, and which of them belong together.

A worker that gets a long file last keeps the others waiting for it.
"""

from __future__ import annotations

LONGEST = (
    "tests/docs/test_commands.py",
    "tests/docs/test_cards.py",
    "tests/docs/test_article.py",
    "tests/studio",
    "tests/serving",
    "tests/jobs",
    "tests/attack",
    "tests/workflows",
    "tests/runs",
    "tests/export",
    "tests/storage",
    "tests/test_notebooks.py",
    "tests/test_examples.py",
    "tests/cli",
    "tests/training",
    "tests/engine",
)
"""Files and folders, those that take longest first; all others come after them."""

TOGETHER = LONGEST[:3]
"""They share the place in which the documentation's commands run."""


def rank(nodeid: str) -> int:
    """The place of a test in the order; those of one file have the same."""
    found = (place for place, start in enumerate(LONGEST) if nodeid.startswith(start))
    return next(found, len(LONGEST))


def together(nodeid: str) -> str:
    """What a worker gets as a whole: a file, or files that belong together."""
    file = nodeid.split("::", 1)[0]
    return TOGETHER[0] if file in TOGETHER else file
