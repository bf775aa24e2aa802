"""The second tab: the model and the settings, and what a run of them would take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from lorita.settings.schema import RunSettings
from lorita.studio.choices import default_model, model_choices
from lorita.studio.explained import explained
from lorita.studio.html import data_link, joined, quiet, remark
from lorita.studio.page_parts import Parts, safely
from lorita.studio.plans import Outdated
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
        changed = [widget.change for widget in everything]
        # One after the other, so that the last change is the last to be seen.
        last = {"trigger_mode": "always_last", "concurrency_limit": 1, **parts.quietly}
        shown, studio = [wrong, foreseen], parts.studio
        # The command follows at once, then the figures, then the time of a run.
        asked = gr.on(changed, _asking(parts), everything, [wrong, foreseen, command, yaml], **last)
        reckoned = asked.then(_foreseeing(parts, studio.forecast), everything, shown, **last)
        reckoned.then(_foreseeing(parts, studio.timed_forecast), everything, shown, **last)
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


def _asking(parts: Parts) -> Any:
    """What follows from the settings at once: a message, the command, the file."""
    words, studio = parts.words, parts.studio

    def ask(request: gr.Request, data: str, *values: Any) -> list[Any]:
        if _is_filling(values):
            return [gr.skip()] * 4
        studio.asks(_window(request), _asked(data, values))
        if not data:
            return ["", quiet(words("no_forecast_yet")), "", ""]
        try:
            wish = studio.wish(words, data, parts.read(values))
        except Exception as error:
            return [explained(words, error), "", "", ""]
        return ["", gr.skip(), wish.command(), _yaml_link(words, wish.yaml())]

    # gradio looks for its own type among the annotations, which here are texts.
    ask.__annotations__["request"] = gr.Request
    return ask


def _foreseeing(parts: Parts, forecast: Callable[..., str | None]) -> Any:
    """A message and the ``forecast`` of what the window wants; nothing if it wants another."""
    words, studio = parts.words, parts.studio

    def foresee(request: gr.Request, data: str, *values: Any) -> list[Any]:
        def is_wanted() -> bool:
            return studio.latest.get(_window(request)) == _asked(data, values)

        nothing = [gr.skip(), gr.skip()]
        if not data or not is_wanted():
            return nothing
        try:
            found = forecast(words, studio.wish(words, data, parts.read(values)), is_wanted)
            shown = nothing if found is None else ["", found]
        except Outdated:
            return nothing
        except Exception as error:
            shown = [explained(words, error), ""]
        return shown if is_wanted() else nothing

    foresee.__annotations__["request"] = gr.Request
    return foresee


def _is_filling(values: tuple[Any, ...]) -> bool:
    """Whether a window that was just opened has not got the values of all fields yet.

    Each that arrives asks for a forecast, in any order; an empty field that has arrived is a text.
    The first one, the model, is a list, in which nothing may be chosen.
    """
    return any(value is None for value in values[1:])


def _window(request: gr.Request) -> str:
    return request.session_hash or ""


def _asked(data: str, values: tuple[Any, ...]) -> str:
    return repr((data, values))


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
