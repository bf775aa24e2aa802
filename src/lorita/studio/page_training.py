"""The third tab and the last: a run while it trains, and all runs, as their files tell."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lorita.studio.explained import explained
from lorita.studio.history import history
from lorita.studio.html import quiet
from lorita.studio.page_parts import Parts, safely
from lorita.studio.page_result import shown_exports, shown_result
from lorita.studio.progress import progress
from lorita.studio.words import Told


def training_tab(parts: Parts) -> None:
    """Build the tab of the training."""
    words = parts.words
    with gr.Tab(words("tab_training"), id="training"):
        message = gr.HTML(elem_id="training-message")
        parts.views["progress"] = gr.HTML(quiet(words("no_run")), elem_id="progress")
        with gr.Row():
            stop = gr.Button(words("stop"), visible=False, elem_id="stop")
            resume = gr.Button(words("resume"), visible=False, elem_id="resume")
            see = gr.Button(
                words("see_result"), variant="primary", visible=False, elem_id="see-result"
            )
    parts.views.update(stop=stop, resume=resume, see=see)
    jobs = parts.studio.jobs
    outputs = [message, parts.seen]
    stop.click(safely(words, 1, _then_look(jobs.stop)), parts.run, outputs, **parts.visibly)
    resume.click(safely(words, 1, _then_look(jobs.resume)), parts.run, outputs, **parts.visibly)
    see.click(lambda: gr.Tabs(selected="result"), outputs=parts.tabs, **parts.quietly)


def runs_tab(parts: Parts) -> None:
    """Build the tab of all runs."""
    words = parts.words
    with gr.Tab(words("tab_runs"), id="runs"):
        gr.HTML(quiet(words("runs_of", folder=str(parts.studio.workspace.folder))))
        parts.views["history"] = gr.HTML(elem_id="history")


def _then_look(work: Any) -> Any:
    """Do something with the run, then have the window look at it anew."""

    def done(name: str | None) -> list[Any]:
        if not name:
            raise Told("no_such_run")
        work(name)
        return [{}]

    return done


def follow_runs(parts: Parts, timer: Any) -> None:
    """Have the window show the runs as their folders change."""
    views = parts.views
    outputs = [
        parts.seen, parts.run, views["progress"], views["stop"], views["resume"], views["see"],
        views["result"], views["exports"], views["history"],
    ]  # fmt: skip

    def look(wanted: str | None, seen: dict[str, Any]) -> list[Any]:
        try:
            return _changes(parts, wanted, seen or {})
        except Exception as error:
            shown = explained(parts.words, error)
            return [{"failed": str(error)}, gr.skip(), shown, *[gr.skip()] * 6]

    how = {**parts.quietly, "queue": False}
    timer.tick(look, [parts.run, parts.seen], outputs, trigger_mode="once", **how)
    parts.run.change(look, [parts.run, parts.seen], outputs, **how)


def _changes(parts: Parts, wanted: str | None, seen: dict[str, Any]) -> list[Any]:
    """The outputs of ``follow_runs``: only what is not as the window has ``seen`` it."""
    studio, words = parts.studio, parts.words
    names = studio.jobs.names()
    name = studio.shown_run(wanted)
    if name is None:
        same = seen.get("names") == names
        shown = [quiet(words("no_run")), *[gr.Button(visible=False)] * 3]
        rest = [quiet(words("no_result")), "", history(words, studio.workspace, studio.tools)]
        only: dict[str, Any] = {"names": names}
        return [gr.skip()] * 9 if same else [only, gr.Dropdown(visible=False), *shown, *rest]
    state = studio.jobs.state(name)
    training = state.training
    now: dict[str, Any] = {
        "names": names,
        "run": name,
        "kind": state.kind,
        "steps": len(training.steps),
        "held_out": len(training.held_out),
        "checkpoint": state.checkpoint,
    }
    if now == seen:
        return [gr.skip()] * 9
    new_run = any(now[key] != seen.get(key) for key in ("run", "kind"))
    done = state.kind == "finished"
    folder = studio.folder(name)
    dropdown = gr.Dropdown(choices=names, value=name, visible=True)
    return [
        now,
        dropdown if new_run or names != seen.get("names") else gr.skip(),
        progress(words, folder, state),
        gr.Button(visible=state.is_running, interactive=state.kind != "stopping"),
        gr.Button(visible=not state.is_running and not done and state.checkpoint is not None),
        gr.Button(visible=done),
        shown_result(parts, folder, done) if new_run else gr.skip(),
        shown_exports(parts, name) if new_run else gr.skip(),
        history(words, studio.workspace, studio.tools) if new_run else gr.skip(),
    ]
