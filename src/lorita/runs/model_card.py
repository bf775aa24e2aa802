"""The model card of a run: ``README.md`` with the figures that were measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorita.evaluation.comparison import Comparison
    from lorita.settings.schema import RunSettings

_SHOWN = (
    "r",
    "lora_alpha",
    "lora_dropout",
    "bias",
    "target_modules",
    "learning_rate",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "lr_scheduler_type",
    "seed",
)


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
    """Markdown with the metadata that the hub reads."""
    lines = ["---", "library_name: peft"]
    if not base_reference.startswith("/"):
        lines.append(f"base_model: {base_reference}")
    lines += ["tags:", "- lora", "- lorita", "pipeline_tag: text-generation", "---", ""]
    lines += [f"# {name}", "", f"A LoRA adapter for `{settings.model}`, made with lorita.", ""]
    lines += ["## Use", "", "```python", "import lorita", ""]
    lines += [f'tuned = lorita.load("{name}")', 'print(tuned.generate("..."))', "```", ""]
    lines += ["or with PEFT alone:", "", "```python"]
    lines += [
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM",
        "",
        f'base = AutoModelForCausalLM.from_pretrained("{base_reference}")',
        f'tuned = PeftModel.from_pretrained(base, "{name}")',
        "```",
        "",
    ]
    if base_reference.endswith(".gguf"):
        folder, _, file = base_reference.rpartition("/")
        lines[-5] = (
            f'base = AutoModelForCausalLM.from_pretrained("{folder or "."}", gguf_file="{file}")'
        )
    lines += ["## Training", "", data_line, "", parameter_line, "", "| option | value |"]
    lines += ["| --- | --- |"]
    lines += [
        f"| {name} | {getattr(settings, name)} |"
        for name in _SHOWN
        if getattr(settings, name) is not None
    ]
    lines += ["", f"Training loss of the last step: {final_loss:.4f} nats per token.", ""]
    lines += ["## Limits", "", _limits(comparison), ""]
    body = comparison.to_markdown().replace("\n## ", "\n### ").replace("# Before", "## Before", 1)
    return "\n".join(lines) + "\n" + body


def _limits(comparison: Comparison) -> str:
    held = comparison.held_out
    measured = (
        f"What is said below was measured on {held.rows} held-out rows of the same data"
        if held is not None
        else "No rows were held out: nothing here says how it does on texts that it did not see"
    )
    return (
        f"{measured}; on other data nothing was. The adapter works on this base alone, and what "
        "the base gets wrong or should not say, it still does."
    )
