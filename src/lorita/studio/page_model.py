"""The second tab: the model and the settings, and what a run of them would take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from lorita.settings.schema import RunSettings
from lorita.studio.choices import default_model, model_choices
from lorita.studio.html import data_link, explained, joined, quiet, remark
from lorita.studio.page_parts import Parts, safely
from lorita.studio.wishes import FIRST, MORE
from lorita.studio.words import Words


def model_tab(parts: Parts) -> None:
    """Build the tab."""
    words, studio = parts.words, parts.studio
    form = parts.form
    with gr.Tab(words("tab_model"), id="model"):
        with gr.Row():
            form["model"] = gr.Dropdown(
                model_choices(words, studio.workspace),
                value=default_model(words, studio.workspace) or None,
                allow_custom_value=True,
                label=words("model"),
                info=words("model_help"),
                elem_id="model",
                min_width=280,
            )
            form["name"] = gr.Textbox(
                label=words("name"),
                info=words("name_help"),
                elem_id="name",
                max_length=80,
                min_width=280,
            )
        with gr.Row():
            _fields(words, form, FIRST)
        with gr.Accordion(words("more_settings"), open=False, elem_id="more"):
            with gr.Row():
                _fields(words, form, MORE)
            form["others"] = gr.Textbox(
                label=words("others"), lines=3, placeholder=words("others_example"),
                elem_id="others",
            )  # fmt: skip
        wrong = gr.HTML(elem_id="form-message")
        foreseen = gr.HTML(quiet(words("no_forecast_yet")), elem_id="forecast")
        command = gr.Textbox(
            label=words("command"), interactive=False, buttons=["copy"], lines=2, max_lines=8,
            elem_id="command",
        )  # fmt: skip
        yaml = gr.HTML(elem_id="yaml")
        message = gr.HTML(elem_id="model-message")
        start = gr.Button(words("train"), variant="primary", elem_id="train")

    def connect() -> None:
        everything = [parts.data, *parts.form_list]
        outputs = [wrong, foreseen, command, yaml]
        gr.on(
            [widget.change for widget in everything],
            _foreseeing(parts),
            everything,
            outputs,
            trigger_mode="always_last",
            **parts.quietly,
        )
        start.click(
            safely(words, 2, lambda data, *values: _started(parts, data, values)),
            everything,
            [message, parts.tabs, parts.run],
            **parts.visibly,
        )

    parts.when_built(connect)


def _fields(words: Words, form: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        default = RunSettings.model_fields[name].default
        said = words("chosen_by_lorita") if default is None else f"{default}"
        form[name] = gr.Textbox(
            label=words(name),
            info=words(f"{name}_help"),
            placeholder=said.replace(".", words.decimal) if default is not None else said,
            elem_id=name.replace("_", "-"),
            max_length=40,
            min_width=150,
        )


def _foreseeing(parts: Parts) -> Any:
    words, studio = parts.words, parts.studio

    def foresee(data: str, *values: Any) -> Iterator[list[Any]]:
        if not data:
            yield ["", quiet(words("no_forecast_yet")), "", ""]
            return
        try:
            wish = studio.wish(words, data, parts.read(values))
        except Exception as error:
            yield [explained(words, error), "", "", ""]
            return
        asked = [wish.command(), _yaml_link(words, wish.yaml())]
        yield ["", gr.skip(), *asked]
        try:
            for shown in studio.forecasts(words, wish):
                yield ["", shown, gr.skip(), gr.skip()]
        except Exception as error:
            yield [explained(words, error), "", gr.skip(), gr.skip()]

    return foresee


def _yaml_link(words: Words, content: str) -> str:
    link = data_link(content, "run.yaml", words("download_yaml"))
    return joined([link, remark(words("yaml_use"))])


def _started(parts: Parts, data: str, values: tuple[Any, ...]) -> list[Any]:
    name = parts.studio.start(parts.words, data, parts.read(values))
    names = parts.studio.jobs.names()
    return [
        gr.Tabs(selected="training"),
        gr.Dropdown(choices=names, value=name, visible=True),
    ]
