"""Past runs as a table of the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from lorita.studio.html import joined, quiet
from lorita.studio.tools import Tools
from lorita.studio.words import Words
from lorita.studio.workspace import Workspace

if TYPE_CHECKING:
    from lorita.workflows.runs import RunLine

MOST = 200


def history(words: Words, workspace: Workspace, tools: Tools) -> str:
    """The HTML of the runs in the workspace's folder, the newest first."""
    lines = tools.runs(workspace.folder)[:MOST] if workspace.folder.is_dir() else []
    if not lines:
        return quiet(words("no_runs_yet"))
    titles = ("run", "when", "model", "data", "held_out_change")
    head = Markup("").join(Markup("<th>{}</th>").format(words(title)) for title in titles)
    rows = (
        Markup("<tr>{}</tr>").format(
            Markup("").join(
                Markup('<td data-title="{}">{}</td>').format(words(title), cell)
                for title, cell in zip(titles, _cells(words, line), strict=True)
            )
        )
        for line in lines
    )
    return joined(
        [
            Markup('<div class="scroll"><table class="runs"><thead><tr>'),
            head,
            Markup("</tr></thead><tbody>"),
            *rows,
            Markup("</tbody></table></div>"),
        ]
    )


def _cells(words: Words, line: RunLine) -> Iterator[str]:
    yield Path(line.run).name
    yield line.when
    yield line.model
    yield ", ".join(line.data)
    if line.problem:
        yield words("damaged")
    elif line.held_out_loss is not None and line.held_out_loss_base is not None:
        yield f"{words.figure(line.held_out_loss_base)} → {words.figure(line.held_out_loss)}"
    elif not line.finished:
        yield words("unfinished")
    elif line.training_loss is not None:
        yield words("first_loss", loss=words.figure(line.training_loss))
    else:
        yield "–"
