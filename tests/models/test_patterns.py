"""A pattern that would match for ever is refused within seconds, whoever wrote it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from lorita.errors import AdapterError
from lorita.models import patterns
from lorita.models.adapter import lora_config
from lorita.models.load_adapter import load_adapter
from tests import tiny

SLOW = r"(([a-z0-9_.]+)+)+!"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("target_modules", SLOW),
        ("exclude_modules", SLOW),
        ("rank_pattern", {"q_proj": 2, SLOW: 2}),
        ("alpha_pattern", {SLOW: 2}),
        ("layers_pattern", [SLOW]),
        ("modules_to_save", [SLOW]),
    ],
)
def test_endless_patterns_of_adapters(
    option: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patterns, "MOST_SECONDS", 1.0)
    model = tiny.make_model("llama")
    options = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    from peft import get_peft_model

    get_peft_model(model, lora_config(model, options)).save_pretrained(tmp_path)
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), option: value}))
    start = time.monotonic()
    with pytest.raises(AdapterError, match=f"{option} .* takes more than 1 seconds"):
        load_adapter(tiny.make_model("llama"), tmp_path)
    assert time.monotonic() - start < 10


def test_endless_patterns_of_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "MOST_SECONDS", 1.0)
    options = {"r": 2, "lora_alpha": 4, "target_modules": SLOW}
    with pytest.raises(AdapterError, match=r"target_modules .* takes more than 1 seconds"):
        lora_config(tiny.make_model("llama"), options)
    with pytest.raises(AdapterError, match="more than 10,000 characters"):
        lora_config(tiny.make_model("llama"), {**options, "target_modules": "a*" * 9000})


def test_ordinary_patterns_match_and_plain_names_start_no_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"r": 2, "lora_alpha": 4, "target_modules": r".*layers\.(0|1)\..*q_proj"}
    assert lora_config(tiny.make_model("llama"), options).target_modules
    monkeypatch.setattr(patterns.subprocess, "run", lambda *_, **__: pytest.fail("a process"))
    assert lora_config(tiny.make_model("llama"), {**options, "target_modules": ["q_proj"]})
