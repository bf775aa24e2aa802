"""Models that also read images: their language part is trained on text, without the towers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, PreTrainedModel

import lorita
from lorita.cli import run as command
from lorita.export.merged.merge import merge
from lorita.models.base import find_base
from lorita.models.base_weights import load_model
from lorita.models.empty_model import empty_model
from tests import tiny
from tests.command import refused, write
from tests.zoo import config_of

ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
CHANGES: dict[str, dict[str, Any]] = {
    "qwen2_vl": {"rope_parameters": ROPE},
    "qwen2_5_vl": {"rope_parameters": ROPE},
}
"""To the configuration of the language part."""
KINDS = [
    "llava", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "gemma3", "mistral3", "smolvlm", "idefics3",
    "paligemma", "internvl", "lfm2_vl", "qwen3_5",
]  # fmt: skip
TRAINED = ["llava", "qwen2_5_vl", "gemma3", "smolvlm"]
IDS = torch.arange(40, 52)[None]


def make(kind: str) -> PreTrainedModel:
    """A whole model with random weights."""
    config = config_of(kind)
    text = config.get_text_config()
    for part in (config, text):
        part.pad_token_id = part.bos_token_id = part.eos_token_id = 0
    for name, value in CHANGES.get(kind, {}).items():
        setattr(text, name, value)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config)
    tiny.make_it_matter(model)
    return model.eval()  # type: ignore[no-any-return]


def save(kind: str, folder: Path) -> Path:
    make(kind).save_pretrained(folder)
    tiny.make_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_the_towers_are_left_out_and_text_is_computed_the_same(kind: str, tmp_path: Path) -> None:
    base = find_base(str(save(kind, tmp_path)))
    part, whole = load_model(base, torch.float32), make(kind)
    assert type(part).__name__ == type(whole).__name__
    names = dict(part.named_parameters())
    assert names.keys() < dict(whole.named_parameters()).keys()
    assert not [name for name in names if "vision" in name or "visual" in name]
    assert names.keys() == dict(empty_model(base).named_parameters()).keys()
    with torch.no_grad():
        assert torch.equal(part(input_ids=IDS).logits, whole(input_ids=IDS).logits)


@pytest.mark.parametrize("kind", TRAINED)
def test_the_adapter_fits_the_whole_checkpoint(
    kind: str, prompts: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    base = save(kind, tmp_path / "base")
    events: list[Any] = []
    trained = lorita.train(
        model=str(base), data=str(prompts), text_field="prompt", learning_rate=1e-2, r=2,
        max_new_tokens=4, proof=False, use_cpu=True, dtype="float32", probe=False, max_steps=3,
        output_dir=tmp_path / "run", on_event=events.append,
    )  # fmt: skip
    assert trained.losses[-1] < trained.losses[0]
    assert any("Only the language part" in str(event) for event in events)
    assert "AutoModelForImageTextToText.from_pretrained" in (tmp_path / "run/README.md").read_text()
    tuned = lorita.load(tmp_path / "run")
    recwarn.clear()
    whole = PeftModel.from_pretrained(make(kind), tmp_path / "run").eval()
    assert not [w for w in recwarn if "missing" in str(w.message)]
    saved = load_file(tmp_path / "run/adapter_model.safetensors")
    assert sum("lora_" in name for name, _ in whole.named_parameters()) == len(saved)
    with torch.no_grad():
        ours, theirs = tuned.model(input_ids=IDS).logits, whole(input_ids=IDS).logits
        own = make(kind)(input_ids=IDS).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert float((ours - own).abs().max()) > 1e-3
    made = merge(tmp_path / "run", tmp_path / "merged")
    merged, before = AutoModelForImageTextToText.from_pretrained(made.path), make(kind)
    with torch.no_grad():
        torch.testing.assert_close(merged(input_ids=IDS).logits, theirs, atol=1e-4, rtol=1e-4)
    after = dict(merged.named_parameters())
    towers = {n: p for n, p in before.named_parameters() if "vision" in n or "visual" in n}
    assert towers
    assert all(torch.equal(after[name], parameter) for name, parameter in towers.items())


IMAGES: dict[str, dict[str, Any]] = {
    "a part of a message": {"messages": [
        {"role": "user", "content": [{"type": "image", "image": "a.png"},
                                     {"type": "text", "text": "What is it?"}]},
        {"role": "assistant", "content": "A cat."}]},
    "a column": {"prompt": "What is it?", "completion": "A cat.", "images": ["a.png"]},
    "one image": {"prompt": "What is it?", "completion": "A cat.", "image": "a.png"},
}  # fmt: skip


@pytest.mark.parametrize("where", IMAGES)
def test_rows_with_images_are_refused(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = save("llava", tmp_path / "base")
    text = {name: value for name, value in IMAGES[where].items() if not name.startswith("image")}
    if where == "a part of a message":
        text = {"messages": [{"role": "user", "content": "Hi"}, IMAGES[where]["messages"][1]]}
    data = write(
        tmp_path / "data.jsonl", "".join(json.dumps(r) + "\n" for r in (text, IMAGES[where]))
    )
    said = refused(capsys, "train", "--model", base, "--data", data, "--output-dir", tmp_path / "r")
    assert "image" in said and "data.jsonl" in said and "row 2" in said.lower(), said
    assert not (tmp_path / "r").exists()


def test_the_plan_names_what_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = save("llava", tmp_path)
    assert command(["plan", str(base), "--r", "2"]) == 0
    assert "without model.vision_tower" in " ".join(capsys.readouterr().out.split())
