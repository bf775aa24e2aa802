"""What others' files say about a base or an adapter is checked before anything is built of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorita.errors import AdapterError, ModelError
from lorita.models.adapter_embeddings import fit_embeddings
from lorita.models.adapter_kinds import read_adapter_config
from lorita.models.adapter_schema import check_tensors
from lorita.models.base import find_base, load_config, load_tokenizer
from lorita.models.base_files import damage
from tests import tiny
from tests.command import refused, write


def changed(folder: Path, file: str, **values: Any) -> Path:
    path = folder / file
    there = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.unlink(missing_ok=True)
    write(path, json.dumps(there | values))
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny.save_model(tmp_path / "base")


CONFIG: dict[str, tuple[dict[str, Any], str]] = {
    "fewer than no layers": ({"num_hidden_layers": -1}, "num_hidden_layers = -1"),
    "a billion layers": ({"num_hidden_layers": 10**9}, "less than or equal to 1000"),
    "no width": ({"hidden_size": 0}, "hidden_size = 0"),
    "a width in words": ({"hidden_size": "32"}, "hidden_size = '32'"),
    "a huge vocabulary": ({"vocab_size": 10**12}, "vocab_size = 1000000000000"),
    "a width of NaN": ({"intermediate_size": float("nan")}, "intermediate_size = nan"),
    "an infinite rate": ({"rms_norm_eps": float("inf")}, "rms_norm_eps = inf"),
    "a path for a type": ({"model_type": "../llama"}, "model_type = '../llama'"),
    "a list for a type": ({"model_type": ["llama"]}, "model_type = ['llama']"),
    "architectures of numbers": ({"architectures": [1]}, "architectures[0] = 1"),
    "a token in words": ({"eos_token_id": "two"}, "eos_token_id = 'two'"),
    "an unknown activation": ({"hidden_act": "magic"}, "magic"),
    "heads that do not fit": ({"num_attention_heads": 5}, "32"),
}


@pytest.mark.parametrize("case", CONFIG)
def test_config(case: str, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values, said = CONFIG[case]
    message = refused(capsys, "plan", changed(base, "config.json", **values))
    assert said in message and str(base) in message


BESIDE: dict[str, tuple[str, dict[str, Any], str]] = {
    "template": ("tokenizer_config.json", {"chat_template": 5}, "chat_template = 5"),
    "token": ("tokenizer_config.json", {"eos_token": ["a"]}, "eos_token = ['a']"),
    "added tokens": (
        "tokenizer_config.json",
        {"added_tokens_decoder": {"-1": {"content": "x"}}},
        "added_tokens_decoder",
    ),
    "special tokens": ("special_tokens_map.json", {"eos_token": 1}, "eos_token = 1"),
    "generation": ("generation_config.json", {"temperature": "hot"}, "temperature = 'hot'"),
    "index": (
        "model.safetensors.index.json",
        {"weight_map": {"a": "../other/model.safetensors"}},
        "a file outside the model's folder ('../other/model.safetensors')",
    ),
}


@pytest.mark.parametrize("case", BESIDE)
def test_files_beside_it(case: str, base: Path) -> None:
    file, values, said = BESIDE[case]
    with pytest.raises(ModelError) as error:
        load_tokenizer(find_base(str(changed(base, file, **values))))
    assert said in str(error.value) and file in str(error.value)


def test_what_real_models_have_is_accepted(base: Path) -> None:
    changed(base, "config.json", pad_token_id=-1, head_dim=None, torch_dtype="float32")
    changed(base, "config.json", eos_token_id=[0, 1], rope_scaling=None)
    changed(base, "tokenizer_config.json", model_max_length=int(1e30), pad_token=None)
    changed(base, "generation_config.json", eos_token_id=[0, 1], temperature=0.6, top_p=0.9)
    found = find_base(str(base))
    assert load_config(found).hidden_size == 32
    assert load_tokenizer(found).eos_token_id == 0


def adapter(folder: Path, base: Path, **tensors: torch.Tensor) -> Path:
    """A LoRA of rank 2 on one layer."""
    folder.mkdir()
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    matrices = {
        f"{name}.lora_A.weight": torch.ones(2, 32),
        f"{name}.lora_B.weight": torch.zeros(32, 2),
    }
    save_file(matrices | tensors, folder / "adapter_model.safetensors")
    values = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    values |= {"base_model_name_or_path": str(base), "layers_to_transform": [0]}
    write(folder / "adapter_config.json", json.dumps(values))
    return folder


ADAPTER: dict[str, tuple[dict[str, Any], str]] = {
    "alpha of NaN": ({"lora_alpha": float("nan")}, "lora_alpha = nan: input should be a finite"),
    "infinite alpha": ({"lora_alpha": float("inf")}, "lora_alpha = inf"),
    "rank in words": ({"r": "2"}, "r = '2': input should be a valid integer"),
    "negative rank": ({"r": -2}, "r = -2"),
    "rank of millions": ({"r": 10**7}, "less than or equal to 65536"),
    "rank that the file has not": ({"r": 60_000}, "the rank r = 60000 does not fit"),
    "rank of one layer": ({"rank_pattern": {"q_proj": 5000}}, "the rank q_proj = 5000"),
    "dropout above 1": ({"lora_dropout": 7}, "lora_dropout = 7"),
    "targets of numbers": ({"target_modules": [1]}, "target_modules[0] = 1"),
    "targets of nothing": ({"target_modules": {}}, "target_modules = {}"),
    "alphas of text": ({"alpha_pattern": {"q": "x"}}, "alpha_pattern.q = 'x'"),
    "a base with a NUL": ({"base_model_name_or_path": "a\0b"}, "NUL byte"),
    "a base of numbers": ({"base_model_name_or_path": 5}, "base_model_name_or_path = 5"),
    "an unknown word": ({"use_rslora": "yes"}, "use_rslora = 'yes'"),
    "a layer below 0": ({"layers_to_transform": [-1]}, "layers_to_transform[0] = -1"),
}


@pytest.mark.parametrize("case", ADAPTER)
def test_adapter(
    case: str, llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values, said = ADAPTER[case]
    folder = changed(adapter(tmp_path / "a", llama), "adapter_config.json", **values)
    assert said in refused(capsys, "generate", folder, "hello", "--max-new-tokens", "1")


def test_an_adapter_as_it_should_be(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = adapter(tmp_path / "a", llama)
    check_tensors(folder / "adapter_model.safetensors", read_adapter_config(folder))


def test_tensors_without_values(llama: Path, tmp_path: Path) -> None:
    """A shape of a billion rows costs nothing in the file, and everything in memory."""
    rows = torch.zeros(10**9, 0)
    name = "base_model.model.model.embed_tokens.weight"
    folder = adapter(tmp_path / "a", llama, **{name: rows})
    with pytest.raises(AdapterError, match="without values"):
        check_tensors(folder / "adapter_model.safetensors", read_adapter_config(folder))


def test_embeddings_of_another_model(llama: Path, tmp_path: Path) -> None:
    name = "base_model.model.model.embed_tokens.weight"
    folder = adapter(tmp_path / "a", llama, **{name: torch.zeros(200_000, 1)})
    with pytest.raises(AdapterError, match="brings embeddings for 200,000 tokens"):
        fit_embeddings(tiny.make_model("llama"), folder)


def test_headers_of_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"x": torch.ones(4)}, path)
    content = path.read_bytes()
    assert damage(path) is None and load_file(path)
    header = {"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}
    for there in (
        b"[1]",
        b"[" * 5000,
        b"{}",
        b'{"x": 1}',
        b"\xff\xfe",
        json.dumps({"x": header["x"] | {"dtype": "F31"}}).encode(),
        json.dumps({"x": header["x"] | {"shape": [-4]}}).encode(),
        json.dumps({"x": header["x"] | {"shape": [10**30]}}).encode(),
        json.dumps({"x": header["x"] | {"data_offsets": [16, 0]}}).encode(),
        json.dumps({"x": header["x"] | {"data_offsets": "0"}}).encode(),
        json.dumps(header | {"y": header["x"]}).encode(),
    ):
        write(path, len(there).to_bytes(8, "little") + there + content[-16:])
        assert damage(path), there
