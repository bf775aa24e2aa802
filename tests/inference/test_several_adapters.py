"""Several adapters on one base: each prompt of a batch is answered by the adapter it names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model

import lorita
from lorita.errors import AdapterError, SettingsError
from lorita.models.adapter import save_adapter, trainable_parameters
from tests import tiny

PROMPTS = ["I act as a cook.", "my tea and my", "I", "gardener and teacher"]
OPTIONS = {"max_new_tokens": 8, "repetition_penalty": 1.2}


def make_adapter(folder: Path, seed: int, **options: object) -> Path:
    """A PEFT folder with an adapter whose weights are random."""
    import torch

    model = get_peft_model(
        tiny.make_model("llama"),
        LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], **options),
    )
    torch.manual_seed(seed)
    for parameter in trainable_parameters(model).values():
        torch.nn.init.normal_(parameter, std=0.3)
    folder.mkdir()
    save_adapter(model, folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("adapters")
    return {
        "a": make_adapter(place / "a", 1, r=2),
        "b": make_adapter(place / "b", 2, r=4, use_rslora=True),
    }


def test_one_batch_many_adapters(llama: Path, folders: dict[str, Path]) -> None:
    alone = {
        name: [
            lorita.load(folder, base=str(llama), dtype="float32").generate(prompt, **OPTIONS)
            for prompt in PROMPTS
        ]
        for name, folder in folders.items()
    }
    several = lorita.load(str(llama), adapters=folders, dtype="float32")
    base = several.generate_batch(PROMPTS, **OPTIONS)
    assert base != alone["a"] != alone["b"]

    assert several.generate_batch(PROMPTS, adapters=["a"] * 4, **OPTIONS) == alone["a"]
    mixed = several.generate_batch(PROMPTS, adapters=["b", None, "a", "b"], **OPTIONS)
    assert mixed == [alone["b"][0], base[1], alone["a"][2], alone["b"][3]]
    for name in folders:  # one call after another
        assert several.generate(PROMPTS[3], adapter=name, **OPTIONS) == alone[name][3]
    assert several.generate(PROMPTS[3], **OPTIONS) == base[3]


def test_refused(llama: Path, folders: dict[str, Path], tmp_path: Path) -> None:
    several = lorita.load(str(llama), adapters=folders, dtype="float32")
    with pytest.raises(SettingsError, match="no adapter 'c': there are a, b"):
        several.generate("x", adapter="c")
    with pytest.raises(SettingsError, match="4 prompts, but 1 adapters"):
        several.generate_batch(PROMPTS, adapters=["a"])
    with pytest.raises(SettingsError, match="empty"):
        lorita.load(str(llama), adapters={})
    with pytest.raises(SettingsError, match="first argument is the base"):
        lorita.load(str(llama), base="x", adapters=folders)
    with pytest.raises(AdapterError, match="no such run folder"):
        lorita.load(str(llama), adapters={"a": tmp_path / "nothing"})

    biased = make_adapter(tmp_path / "biased", 3, r=2, bias="lora_only")
    dora = make_adapter(tmp_path / "dora", 4, r=2, use_dora=True)
    with pytest.raises(AdapterError) as refused:
        lorita.load(str(llama), adapters={"a": biased, "b": dora, "default": folders["a"]})
    assert len(refused.value.problems) == 3

    other = make_adapter(tmp_path / "other", 5, r=2)
    config = json.loads((other / "adapter_config.json").read_text())
    config["target_modules"] = ["o_proj"]
    (other / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(AdapterError, match="does not exist in the model"):
        lorita.load(str(llama), adapters={"a": folders["a"], "b": other})
