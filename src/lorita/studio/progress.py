"""A run while it trains, as a part of the page: how far it is, and its curves."""

from __future__ import annotations

import shlex
from pathlib import Path

from markupsafe import Markup

from lorita.runs.report.plots import curves
from lorita.runs.report.training_log import TrainingLog
from lorita.studio.html import joined
from lorita.studio.jobs import State, resume_arguments
from lorita.studio.messages import language_remark, said, said_list
from lorita.studio.words import Words

RECENT = 20
"""Steps whose mean time is that of the steps to come."""


def progress(words: Words, folder: Path, state: State) -> str:
    """The HTML of a run's training."""
    parts = [_said(words, state)]
    training = state.training
    if training.steps:
        parts += [_bar(words, state), _plots(words, training)]
    if training.warnings:
        parts.append(said_list(words, training.warnings, kind="problems"))
    if state.is_running:
        parts.append(Markup('<p class="quiet">{}</p>').format(words("closing")))
    elif state.kind in ("stopped", "failed") and state.checkpoint is not None:
        command = shlex.join(["lorita", *resume_arguments(folder)])
        parts.append(
            Markup('<p class="quiet">{} <code>{}</code></p>').format(
                words("resume_command"), command
            )
        )
    return joined(parts)


def _said(words: Words, state: State) -> Markup:
    if state.kind == "stopped" and state.checkpoint is None:
        text = words("state_not_saved")
    elif state.kind == "stopped":
        text = words("state_stopped", step=state.checkpoint)
    else:
        text = words(f"state_{state.kind}")
    shown = Markup('<p class="state {}"><strong>{}</strong></p>').format(state.kind, text)
    if state.message:
        shown += Markup('<div class="message" role="alert"><pre>{}</pre>{}</div>').format(
            said(words, state.message), language_remark(words, [state.message])
        )
    return shown


def _bar(words: Words, state: State) -> Markup:
    training = state.training
    last = training.steps[-1]
    most = training.max_steps
    figures = [
        words("step_of", step=last.number, steps=most)
        if most
        else words("step_alone", step=last.number)
    ]
    if last.loss is not None:
        figures.append(words("loss", loss=words.figure(last.loss)))
    if training.held_out:
        figures.append(words("held_out_loss", loss=words.figure(training.held_out[-1][1])))
    if training.tokens_per_second:
        figures.append(words("speed", speed=words.count(round(training.tokens_per_second))))
    left = _left(training)
    if state.kind == "running" and left is not None:
        figures.append(words("time_left", time=words.time(left)))
    share = 100 * last.number / most if most else 0.0
    return Markup(
        '<div class="bar" role="progressbar" aria-valuenow="{share}" aria-valuemin="0" '
        'aria-valuemax="100"><i style="width: {share}%"></i></div><p>{said}</p>'
    ).format(share=f"{min(share, 100.0):.1f}", said=" · ".join(figures))


def _left(training: TrainingLog) -> float | None:
    recent = [step.seconds for step in training.steps[-RECENT:]]
    if training.max_steps is None or not recent:
        return None
    return (training.max_steps - training.steps[-1].number) * sum(recent) / len(recent)


def _plots(words: Words, training: TrainingLog) -> Markup:
    losses = training.curve("loss")
    held_out = [(float(step), loss) for step, loss in training.held_out]
    figures = []
    if losses:
        lines = [losses, held_out] if held_out else [losses]
        names = ["training_line", "held_out_line"][: len(lines)]
        figures.append(_figure(words, "loss_plot", lines, names))
    if rates := training.curve("learning_rate"):
        figures.append(_figure(words, "rate_plot", [rates], []))
    return Markup('<div class="plots">{}</div>').format(Markup("").join(figures))


def _figure(
    words: Words, title: str, lines: list[list[tuple[float, float]]], names: list[str]
) -> Markup:
    key = (
        Markup('<span class="color-{}"><span>{}</span></span>').format(i, words(name))
        for i, name in enumerate(names)
    )
    # Markup of our own: pygal drew it from numbers alone.
    svg = Markup(curves(lines, label=words(title), x=words("step_axis"), points=(1,)))
    return Markup(
        '<figure><figcaption>{}</figcaption>{}<div class="legend">{}</div></figure>'
    ).format(words(title), svg, Markup("").join(key))
