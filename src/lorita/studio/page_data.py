"""The first tab: data goes in, and how it was understood comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from lorita.data.sources.open_file import KINDS, PACKINGS
from lorita.errors import UserError
from lorita.studio.explained import explained
from lorita.studio.html import quiet
from lorita.studio.page_parts import Parts, safely
from lorita.studio.uploads import MOST_BYTES, keep_file, keep_text, run_name
from lorita.studio.words import Told


def data_tab(parts: Parts) -> None:
    """Build the tab."""
    words = parts.words
    with gr.Tab(words("tab_data"), id="data") as tab:
        with gr.Row():
            with gr.Column():
                file = gr.File(
                    label=words("file"),
                    file_types=[*KINDS, *PACKINGS],
                    height=150,
                    elem_id="file",
                )
                size = f"{MOST_BYTES // 2**20} MB"
                gr.HTML(quiet(words("file_help", size=size)))
            with gr.Column():
                text = gr.Textbox(label=words("paste"), lines=5, max_lines=8, elem_id="paste")
                use_text = gr.Button(words("use_text"), elem_id="use-text")
        with gr.Row(equal_height=True):
            place = gr.Textbox(label=words("place"), elem_id="place", scale=4)
            use_place = gr.Button(words("use_place"), elem_id="use-place", scale=1)
        parts.views["data_message"] = gr.HTML(elem_id="data-message")
        parts.views["understood"] = gr.HTML(quiet(words("no_data_yet")), elem_id="understood")
        following = gr.Button(words("next_model"), variant="primary", elem_id="next-model")
    following.click(lambda: gr.Tabs(selected="model"), outputs=parts.tabs, **parts.quietly)
    parts.show_data = safely(words, 1, lambda data, *form: _looked(parts, data, form))

    def connect() -> None:
        outputs = [
            parts.views["data_message"], parts.data, parts.views["understood"], parts.form["name"],
        ]  # fmt: skip
        for event, source, keep in (
            (file.upload, file, _keep_file),
            (use_text.click, text, keep_text),
            (use_place.click, place, _keep_place),
            (place.submit, place, _keep_place),
        ):
            event(_taking(parts, keep), [source, *parts.form_list], outputs, **parts.visibly)
        tab.select(
            parts.show_data, [parts.data, *parts.form_list], parts.data_views, **parts.quietly
        )

    parts.when_built(connect)


def _taking(parts: Parts, keep: Any) -> Any:
    """A handler that keeps what was given and shows how it is understood."""
    studio, words = parts.studio, parts.words

    def take(source: Any, *form: Any) -> list[Any]:
        try:
            data = keep(studio.workspace, source)
        except Exception as error:
            return [explained(words, error), gr.skip(), gr.skip(), gr.skip()]
        name = studio.workspace.free_name(run_name(data))
        try:
            return ["", data, *_looked(parts, data, form), name]
        except (Told, UserError) as error:
            # It is kept as the data: a setting, such as the column to read, may put it right.
            return [explained(words, error), data, "", name]
        except Exception as error:
            return [explained(words, error), gr.skip(), gr.skip(), gr.skip()]

    return take


def _looked(parts: Parts, data: str, form: tuple[Any, ...]) -> list[Any]:
    return [parts.studio.look(parts.words, data, parts.read(form))]


def _keep_file(workspace: Any, uploaded: Any) -> str:
    if not uploaded:
        raise Told("no_data")
    return keep_file(workspace, Path(str(uploaded)))


def _keep_place(workspace: Any, text: Any) -> str:
    place = str(text or "").strip()
    if not place or place == "-":  # there is no standard input here
        raise Told("no_place")
    return place
