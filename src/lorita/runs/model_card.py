"""The model card of a run: ``README.md`` with the measured figures."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from lorita.evaluation.markdown import code, escaped, one_line, python_string
from lorita.settings.facts import options_where

if TYPE_CHECKING:
    from lorita.evaluation.comparison import Comparison
    from lorita.settings.schema import RunSettings


def model_card(
    name: str,
    settings: RunSettings,
    comparison: Comparison,
    *,
    base_reference: str,
    parameter_line: str,
    data_line: str,
    final_loss: float,
) -> str:
    """The card in Markdown; the metadata at its top is what the hub reads."""
    lines = ["---", "library_name: peft"]
    if not base_reference.startswith("/"):
        lines.append(f"base_model: {_yaml_text(base_reference)}")
    lines += ["tags:", "- lora", "- lorita", "pipeline_tag: text-generation", "---", ""]
    lines += [
        f"# {one_line(name)}",
        "",
        f"A LoRA adapter for {code(settings.model)}, made with lorita.",
        "",
    ]
    lines += ["## Use", "", "```python", "import lorita", ""]
    lines += [
        f"tuned = lorita.load({python_string(name)})",
        'print(tuned.generate("..."))',
        "```",
        "",
    ]
    lines += ["or with PEFT alone:", "", "```python"]
    lines += [
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM",
        "",
        f"base = AutoModelForCausalLM.from_pretrained({python_string(base_reference)})",
        f"tuned = PeftModel.from_pretrained(base, {python_string(name)})",
        "```",
        "",
    ]
    if base_reference.endswith(".gguf"):
        folder, _, file = base_reference.rpartition("/")
        place = f"{python_string(folder or '.')}, gguf_file={python_string(file)}"
        lines[-5] = f"base = AutoModelForCausalLM.from_pretrained({place})"
    lines += ["## Training", "", escaped(data_line), "", parameter_line, "", "| option | value |"]
    lines += ["| --- | --- |"]
    lines += [
        f"| {name} | {one_line(str(getattr(settings, name)))} |"
        for name in options_where(on_card=True)
        if getattr(settings, name) is not None
    ]
    lines += ["", f"Training loss of the last step: {final_loss:.4f} nats per token.", ""]
    lines += ["## Limits", "", _limits(comparison), ""]
    body = comparison.to_markdown().replace("\n## ", "\n### ").replace("# Before", "## Before", 1)
    return "\n".join(lines) + "\n" + body


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
