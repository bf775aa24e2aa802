"""The page in one language: its tabs, and what happens when a window is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr
from markupsafe import Markup

from lorita.studio.choices import default_model
from lorita.studio.html import joined
from lorita.studio.page_chat import chat_tab
from lorita.studio.page_data import data_tab
from lorita.studio.page_model import model_tab
from lorita.studio.page_parts import Parts
from lorita.studio.page_result import result_tab
from lorita.studio.page_training import follow_runs, runs_tab, training_tab
from lorita.studio.uploads import run_name
from lorita.studio.wishes import FORM
from lorita.studio.words import LANGUAGES, Words

if TYPE_CHECKING:
    from lorita.studio.service import Studio

POLL = 1.5
"""Seconds between looks at the runs' folders."""


def build_page(words: Words, studio: Studio) -> gr.Blocks:
    """The page as gradio's Blocks; all windows share what is in ``studio``."""
    blocks: gr.Blocks
    with gr.Blocks(title=words("title"), analytics_enabled=False) as blocks:
        gr.HTML(_head(words), elem_id="head")
        parts = Parts(words, studio, data=gr.State(""), seen=gr.State({}), talk=gr.State(None))
        parts.run = gr.Dropdown(
            [], label=words("run"), visible=False, elem_id="run", filterable=False, container=True
        )
        with gr.Tabs(selected="data", elem_id="tabs", overflow_behavior="wrap") as tabs:
            parts.tabs = tabs
            data_tab(parts)
            model_tab(parts)
            training_tab(parts)
            result_tab(parts)
            chat_tab(parts)
            runs_tab(parts)
        parts.connect()
        follow_runs(parts, gr.Timer(POLL))
        blocks.load(
            lambda: _opened(words, studio),
            outputs=[parts.data, *(parts.form[name] for name in FORM)],
            **parts.quietly,
        ).then(parts.show_data, [parts.data, *parts.form_list], parts.data_views, **parts.quietly)
    return blocks


def _opened(words: Words, studio: Studio) -> list[Any]:
    """What a new window shows: what was last chosen in any other."""
    draft = studio.workspace.draft
    fields = {**draft.fields, "model": default_model(words, studio.workspace)}
    wanted = fields.get("name") or (run_name(draft.data) if draft.data else "")
    fields["name"] = studio.workspace.free_name(wanted) if wanted else ""
    return [draft.data, *(fields.get(name, "") for name in FORM)]


def _head(words: Words) -> str:
    links = (
        Markup('<a href="/{}/" hreflang="{}" lang="{}"{}>{}</a>').format(
            code,
            code,
            code,
            Markup(' aria-current="true"') if code == words.language else "",
            other("this_language"),
        )
        for code, other in LANGUAGES.items()
    )
    return joined(
        [
            Markup("<header><div><h1>{}</h1><p>{}</p></div><nav>{}</nav></header>").format(
                words("title"), words("tagline"), Markup("").join(links)
            )
        ]
    )
