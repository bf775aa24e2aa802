"""The fifth tab: the same message to the base and to the tuned model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import gradio as gr

from lorita.studio.exports import require_finished
from lorita.studio.html import quiet
from lorita.studio.page_parts import Parts, safely_each
from lorita.studio.talk import Talk, ask, shown_talk
from lorita.studio.words import Told


def chat_tab(parts: Parts) -> None:
    """Build the tab."""
    words = parts.words
    with gr.Tab(words("tab_chat"), id="chat"):
        message = gr.HTML(elem_id="chat-message")
        shown = gr.HTML(quiet(words("no_chat_yet")), elem_id="talk")
        question = gr.Textbox(label=words("question"), lines=2, max_lines=8, elem_id="question")
        with gr.Row():
            send = gr.Button(words("send"), variant="primary", elem_id="send")
            clear = gr.Button(words("clear"), elem_id="clear")
    handle = safely_each(words, 3, lambda *asked: _asking(parts, *asked))
    for event in (send.click, question.submit):
        event(
            handle,
            [parts.run, question, parts.talk],
            [message, shown, question, parts.talk],
            **parts.quietly,
        )
    clear.click(
        lambda: ["", quiet(words("no_chat_yet")), None],
        outputs=[message, shown, parts.talk],
        **parts.quietly,
    )


def _asking(
    parts: Parts, name: str | None, text: str | None, talk: Talk | None
) -> Iterator[list[Any]]:
    """Show the answers as they grow. A thread of its own writes them: a model stays in one."""
    words, studio = parts.words, parts.studio
    if not name:
        raise Told("no_such_run")
    folder = require_finished(studio.workspace, name)
    talk = talk or Talk()
    before = shown_talk(words, talk) if talk.run == name and talk.turns else ""
    failed: list[BaseException] = []

    def work() -> None:
        try:
            ask(studio.models, talk, folder, text or "")
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    last = ""
    while True:
        thread.join(0.2)
        if failed:
            raise failed[0]
        started = talk.run == name and talk.turns
        now = shown_talk(words, talk) if started else before + quiet(words("loading_model"))
        if now != last or not thread.is_alive():
            last = now
            yield [now, "" if started else gr.skip(), talk]
        if not thread.is_alive():
            return
