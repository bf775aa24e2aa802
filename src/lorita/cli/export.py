"""``lorita export``: a group of commands, one for each place that a run can be taken to."""

from __future__ import annotations

from cyclopts import App

EXPORTS = {
    "gguf": "An adapter or a merged model as a GGUF file, for llama.cpp.",
    "ollama": "A Modelfile and its GGUF file, for ollama create.",
}
"""Target: its line in the help. Each lives in ``cli/export_TARGET.py``."""


def _make_group() -> App:
    group = App(
        name="export",
        help="Take a run to another program.",
        help_format="plaintext",
        result_action="return_value",
    )
    for name, help_text in EXPORTS.items():
        group.command(f"lorita.cli.export_{name}:command", name=name, help=help_text)
    return group


command = _make_group()
