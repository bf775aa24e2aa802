"""Plain text and Markdown: a line, a paragraph or a whole file is a row."""

from __future__ import annotations

from collections.abc import Iterator

from lorita.data.sources.file_table import MOST_LINES
from lorita.data.sources.open_file import LONGEST_ROW, DataFile, FileProblem, lines_of, too_long
from lorita.data.sources.table_batches import TableBatches, in_batches, text_batch

UNITS = ("line", "paragraph", "file")


def usual_unit(kind: str) -> str:
    """What a row is when nothing is said: a line of Markdown means nothing by itself."""
    return "file" if kind == "markdown" else "line"


def text_rows(file: DataFile, unit: str) -> Iterator[tuple[int, str]]:
    """Every text with the line that it begins on; those of white space alone are left out."""
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
                raise FileProblem(too_long(f"the {unit} from line {start} on"))
        elif held:
            yield start, "\n".join(held)
            held, size = [], 0
    text = "\n".join(held).strip("\n")
    if text.strip():
        yield start, text


def text_batches(file: DataFile, unit: str) -> TableBatches:
    lines: list[int] = []
    count = last = 0
    for batch in in_batches(text_rows(file, unit)):
        count += len(batch)
        last = batch[-1][0]
        if count <= MOST_LINES:
            lines += [line for line, _ in batch]
        yield text_batch(["text"], [[text for _, text in batch]])
    if not count:
        raise FileProblem("there is no text in it")
    whole = unit == "line" and last == count
    notes = [] if unit == usual_unit(file.kind) == "line" else [f"a row is a {unit}"]
    if unit == "line" and not whole:
        notes.append("blank lines are left out")
    return {
        "json_columns": [],
        "notes": notes,
        "lines": None if whole or count > MOST_LINES else lines,
    }
