"""The demonstration: a small real model, role prompts written for this project, one short run."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from lorita.settings.build import build_settings
from lorita.settings.schema import RunSettings

HELD_OUT = 20
"""The last rows of the English data; of the small Spanish set, five are held out."""

PROMPTS = {
    "en": ["I want you to act as a motivational coach.", "I want you to act as a ferry captain."],
    "es": ["Quiero que actúes como entrenador personal.", "Quiero que actúes como librera."],
}
"""Roles that do not occur in the training rows."""

REMARKS = {
    "es": "Están en español los prompts del entrenamiento y los de la comparación; los mensajes "
    "del programa, en inglés. El modelo incluido apenas habla español: sus respuestas saldrán en "
    "un español pobre. Para trabajar en español, elige un modelo multilingüe con lorita train."
}
"""What to expect, for those who asked for another language than that of the messages."""


def data_file(language: str = "en") -> Path:
    """The bundled role prompts: columns ``act`` and ``prompt``."""
    name = {"en": "role_prompts.csv", "es": "role_prompts_es.csv"}[language]
    return Path(str(files("lorita") / "resources" / name))


def demo_settings(language: str, *, output_dir: Path, overwrite: bool) -> RunSettings:
    """Settings for role prompts on the bundled model and data, which take one to three minutes."""
    data = data_file(language)
    rows = _count_rows(data)
    return build_settings(
        model="smollm2-135m",
        data=[str(data)],
        text_field="prompt",
        max_train_samples=rows - (HELD_OUT if language == "en" else 5),
        r=8,
        lora_alpha=16,
        target_modules="q_proj,k_proj,v_proj,o_proj",
        learning_rate=3e-3,
        num_train_epochs=3 if language == "es" else 2,
        per_device_train_batch_size=8,
        warmup_steps=3,
        compare_prompt=PROMPTS[language],
        output_dir=output_dir,
        overwrite=overwrite,
    )


def _count_rows(data: Path) -> int:
    import csv

    with data.open(encoding="utf-8", newline="") as text:
        return sum(1 for _ in csv.DictReader(text))
