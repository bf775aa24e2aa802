"""The bundled model in llama.cpp: 20 held-out prompts, compared token by token."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

import lorita
from lorita.export.gguf.check import ask_llamacpp
from lorita.export.gguf.export import export_gguf
from lorita.export.verify import ask_reference
from lorita.inference.load import load

ROWS = Path(lorita.__file__).parent / "resources/role_prompts.csv"
pytestmark = pytest.mark.slow


def held_out(count: int) -> list[str]:
    """The starts of the last ``count`` rows; the first fifty are the training rows."""
    with ROWS.open(encoding="utf-8", newline="") as file:
        texts = [row["prompt"] for row in csv.DictReader(file)]
    return [" ".join(text.split()[:12]) for text in texts[-count:]]


@pytest.mark.parametrize("options", [{"use_rslora": True}, {"bias": "all", "use_dora": True}])
def test_twenty_prompts(options: dict[str, Any], tmp_path: Path) -> None:
    prompts = held_out(20)
    run = lorita.train(
        model="smollm2-135m",
        data=str(ROWS),
        text_field="prompt",
        max_train_samples=50,
        max_eval_samples=2,
        max_length=96,
        max_steps=8,
        dtype="float32",
        target_modules=["q_proj", "k_proj", "v_proj", "down_proj"],
        compare_prompt=prompts,
        max_new_tokens=2,
        output_dir=tmp_path / "run",
        on_event=lambda event: None,
        **options,
    ).path
    tuned = load(run, dtype="float32")
    references = ask_reference(tuned, prompts)
    for quantize, least in (("f32", 19), ("f16", 15)):
        path = tmp_path / f"{quantize}.gguf"
        made = export_gguf(run, path, merged=True, quantize=quantize)
        found = ask_llamacpp(path, references)
        print(quantize, *found.lines(), sep="\n")
        assert found.identical >= least and made.checked
    if "use_dora" not in options:
        made = export_gguf(run, tmp_path / "adapter.gguf")
        print("adapter on the bundled Q4_1", *made.checked, sep="\n")
