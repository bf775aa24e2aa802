"""Plain text and Markdown: each row is a line, a paragraph or a whole file."""

from __future__ import annotations

from collections.abc import Iterator

from lorita.data.sources.file_table import MOST_LINES
from lorita.data.sources.open_file import LONGEST_ROW, DataFile, FileProblem, lines_of, too_long
from lorita.data.sources.table_batches import TableBatches, in_batches, text_batch

UNITS = ("line", "paragraph", "file")


def usual_unit(kind: str) -> str:
    """The default unit of a row; a single line of Markdown would mean nothing by itself."""
    return "file" if kind == "markdown" else "line"


def text_rows(file: DataFile, unit: str) -> Iterator[tuple[int, str]]:
    """Every text and the number of its first line; blank texts are skipped."""
    if unit == "line":
        for number, line in enumerate(lines_of(file), 1):
            if line.strip():
                yield number, line.rstrip("\r\n")
        return
    start, size = 1, 0
    held: list[str] = []
    for number, line in enumerate(lines_of(file), 1):
        ends = unit == "paragraph" and not line.strip()
        if not ends:
            start = start if held else number
            held.append(line.rstrip("\r\n"))
            size += len(line)
            if size > LONGEST_ROW:
                raise FileProblem(too_long(f"the {unit} that starts on line {start}"))
        elif held:
            yield start, "\n".join(held)
            held, size = [], 0
    text = "\n".join(held).strip("\n")
    if text.strip():
        yield start, text


def text_batches(file: DataFile, unit: str) -> TableBatches:
    """The texts of a file as batches of one column; ``FileProblem`` if there are none.

    The line of every row is noted, unless rows are simply the lines or there are too many.
    """
    lines: list[int] = []
    count = last = 0
    for batch in in_batches(text_rows(file, unit)):
        count += len(batch)
        last = batch[-1][0]
        if count <= MOST_LINES:
            lines += [line for line, _ in batch]
        yield text_batch(["text"], [[text for _, text in batch]])
    if not count:
        raise FileProblem("the file contains no text")
    whole = unit == "line" and last == count
    notes = [] if unit == usual_unit(file.kind) == "line" else [f"each {unit} is a row"]
    if unit == "line" and not whole:
        notes.append("blank lines are skipped")
    return {
        "json_columns": [],
        "notes": notes,
        "lines": None if whole or count > MOST_LINES else lines,
    }
