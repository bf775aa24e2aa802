"""The fourth tab: before and after, the proof, and exports to download."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
from markupsafe import Markup

from lorita.studio.explained import explained
from lorita.studio.exports import KINDS, begin_export, export_command, ready
from lorita.studio.html import joined, link, quiet
from lorita.studio.page_parts import Parts, safely_each
from lorita.studio.result import result
from lorita.studio.words import Told, Words


def result_tab(parts: Parts) -> None:
    """Build the tab."""
    words = parts.words
    made = [(words(f"export_{kind}"), kind) for kind in KINDS if kind != "adapter"]
    with gr.Tab(words("tab_result"), id="result"):
        parts.views["result"] = gr.HTML(quiet(words("no_result")), elem_id="result")
        gr.HTML(f"<h3>{words('exports')}</h3>")
        message = gr.HTML(elem_id="export-message")
        parts.views["exports"] = gr.HTML(elem_id="exports")
        with gr.Row(equal_height=True):
            kind = gr.Dropdown(
                made, value="gguf", label=words("export_kind"), elem_id="export-kind",
                filterable=False, scale=4,
            )  # fmt: skip
            make = gr.Button(words("make"), elem_id="make-export", scale=1)
        command = gr.Textbox(
            label=words("command"), interactive=False, buttons=["copy"], lines=1, max_lines=6,
            elem_id="export-command",
        )  # fmt: skip
    make.click(
        safely_each(words, 1, lambda name, wanted: _exporting(parts, name, wanted)),
        [parts.run, kind],
        [message, parts.views["exports"]],
        **parts.quietly,
    )
    for event in (kind.change, parts.run.change):
        event(lambda *asked: _command(parts, *asked), [parts.run, kind], command, **parts.quietly)


def shown_result(parts: Parts, folder: Path, done: bool) -> str:
    """The HTML of a run's result; a message if its files are damaged."""
    if not done:
        return quiet(parts.words("no_result"))
    try:
        return result(parts.words, folder)
    except Exception as error:
        return explained(parts.words, error)


def shown_exports(parts: Parts, name: str) -> str:
    """Links to what can be downloaded of a run."""
    return downloads(parts.words, name, ready(parts.studio.workspace, name))


def downloads(words: Words, name: str, kinds: list[str]) -> str:
    """A line for each kind of export, with its link."""
    lines = (
        Markup("<li>{} {}</li>").format(
            link(f"/files/{quote(name)}/{kind}", words("download"), download=""),
            words(f"export_{kind}"),
        )
        for kind in kinds
    )
    return joined([Markup('<ul class="downloads">{}</ul>').format(Markup("").join(lines))])


def _command(parts: Parts, name: str | None, kind: str) -> str:
    if not name or kind not in KINDS:
        return ""
    return export_command(parts.studio.workspace, name, kind)


def _exporting(parts: Parts, name: str | None, kind: str) -> Iterator[list[Any]]:
    words = parts.words
    if not name:
        raise Told("no_such_run")
    export = begin_export(parts.studio.workspace, name, kind)
    while not export.ended():
        text = words("exporting", what=words(f"export_{kind}"), time=words.time(export.seconds))
        yield [shown_exports(parts, name) + quiet(text)]
        time.sleep(0.5)
    yield [shown_exports(parts, name) + quiet(words("ready", what=words(f"export_{kind}")))]
