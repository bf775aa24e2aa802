"""Adapters trained on GGUF files of newer families, merged and alone, run by llama.cpp."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lorita import load
from lorita.export.gguf.export import export_gguf
from lorita.models.adapter import save_adapter
from lorita.models.base import find_base
from lorita.models.base_weights import load_model
from tests.export import models
from tests.export.gguf.test_gguf import distance, likeliest
from tests.models.gguf_bases import write_gguf

FAST = ("lfm2", "granitemoehybrid, dense")
SLOW = ("smollm3", "granite", "olmo3", "ministral3", "gpt_neox", "qwen3_5_text")


@pytest.mark.parametrize(
    "family", [*FAST, *(pytest.param(family, marks=pytest.mark.slow) for family in SLOW)]
)
def test_out_again(family: str, tmp_path: Path) -> None:
    """llama.cpp answers with the exported files as the run does on the base's file."""
    base = write_gguf(tmp_path, family)
    run = tmp_path / "run"
    run.mkdir()
    save_adapter(models.with_adapter(load_model(find_base(str(base)), torch.float32), family), run)
    tuned = load(run, dtype="float32").model
    made = export_gguf(run, tmp_path / "merged.gguf", merged=True, quantize="f32")
    assert distance(tuned, likeliest(made.path)) < 0.01
    export_gguf(run, tmp_path / "adapter.gguf")
    assert distance(tuned, likeliest(base, tmp_path / "adapter.gguf")) < 0.01
