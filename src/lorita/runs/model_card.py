"""The model card of a run: ``README.md`` with the measured figures."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.evaluation.markdown import code, escaped, one_line
from lorita.export.usage import hub_origin, load_path, public_name, usage_section
from lorita.models.adapter_embeddings import tokens_needed
from lorita.settings.facts import options_where
from lorita.storage.run_folder import LOSS_PICTURE, REPORT_FILE

if TYPE_CHECKING:
    from lorita.evaluation.comparison import Comparison
    from lorita.models.base import Base
    from lorita.settings.schema import RunSettings


def model_card(
    folder: Path,
    settings: RunSettings,
    comparison: Comparison,
    *,
    base: Base,
    parameter_line: str,
    data_line: str,
    final_loss: float,
) -> str:
    """The card in Markdown; the metadata at its top is what the hub reads.

    ``folder`` is the run's. No other folder of this machine is named.
    """
    lines = ["---", "library_name: peft"]
    if (origin := hub_origin(base)) is not None:
        lines.append(f"base_model: {_yaml_text(origin)}")
    lines += ["tags:", "- lora", "- lorita", "pipeline_tag: text-generation", "---", ""]
    lines += [
        f"# {one_line(folder.name)}",
        "",
        f"A LoRA adapter for {code(public_name(base))}, made with lorita.",
        "",
        usage_section(load_path(folder), base, settings.revision, tokens=tokens_needed(folder)),
    ]
    data_line = _without_places(data_line, settings)
    lines += ["## Training", "", escaped(data_line), "", parameter_line, "", "| option | value |"]
    lines += ["| --- | --- |"]
    lines += [
        f"| {name} | {one_line(str(getattr(settings, name)))} |"
        for name in options_where(on_card=True)
        if getattr(settings, name) is not None
    ]
    lines += ["", f"Training loss of the last step: {final_loss:.4f} nats per token.", ""]
    lines += [
        f"![Loss curves]({LOSS_PICTURE})",
        "",
        f"The whole report: [{REPORT_FILE}]({REPORT_FILE})",
        "",
    ]
    lines += ["## Limits", "", _limits(comparison), ""]
    comparison = replace(comparison, model=public_name(base))
    body = comparison.to_markdown().replace("\n## ", "\n### ").replace("# Before", "## Before", 1)
    return "\n".join(lines) + "\n" + body


def _without_places(text: str, settings: RunSettings) -> str:
    """The text with files under their names alone, without the folders they are in."""
    named = [*settings.data, settings.eval_data, settings.chat_template, settings.map_row]
    paths = [Path(name).expanduser() for name in named if name is not None and name != "-"]
    places = {path.parent for path in paths} | {path.absolute().parent for path in paths}
    places |= {Path.cwd(), Path.home()}
    for place in sorted(places - {Path(), Path("/")}, key=lambda place: -len(str(place))):
        text = text.replace(f"{place}/", "")
    return text


def _yaml_text(text: str) -> str:
    """A plain name as it is; anything else in quotes, as YAML reads JSON's."""
    return text if re.fullmatch(r"[\w./-]+", text, re.ASCII) else json.dumps(text)


def _limits(comparison: Comparison) -> str:
    held = comparison.held_out
    measured = (
        f"The figures below were measured on {held.rows} held-out rows of the same data, and on no "
        "other data"
        if held is not None
        else "No rows were held out, so nothing here shows how the adapter performs on unseen text"
    )
    return (
        f"{measured}. The adapter works with this base model only; what the base gets wrong or "
        "should not say, the tuned model may still say."
    )
