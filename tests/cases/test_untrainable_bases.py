"""Models in forms that cannot be trained are named as such before any of them is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lorita.cli import run
from lorita.errors import ModelError
from lorita.models.base import find_base
from lorita.models.base_forms import plain_name, quantisation
from tests import tiny
from tests.command import refused, write

QUANTISED: dict[str, tuple[dict[str, Any], str]] = {
    "bitsandbytes": (
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
        "bitsandbytes",
    ),
    "bitsandbytes without a method": ({"quantization_config": {"load_in_8bit": True}}, "bitsandb"),
    "GPTQ": ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "GPTQ"),
    "AWQ": ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "AWQ"),
    "compressed-tensors": (
        {"quantization_config": {"quant_method": "compressed-tensors"}},
        "compressed-tensors",
    ),
    "FP8": ({"quantization_config": {"quant_method": "fp8"}}, "FP8"),
    "MXFP4": ({"quantization_config": {"quant_method": "mxfp4"}}, "MXFP4"),
    "AQLM": ({"quantization_config": {"quant_method": "aqlm"}}, "AQLM"),
    "HQQ": ({"quantization_config": {"quant_method": "hqq"}}, "HQQ"),
    "MLX": ({"quantization": {"group_size": 64, "bits": 4}}, "MLX, 4 bits"),
    "one that is new": ({"quantization_config": {"quant_method": "newquant"}}, "newquant"),
    "in the text part": (
        {"text_config": {"model_type": "x", "quantization_config": {"quant_method": "gptq"}}},
        "GPTQ",
    ),
}


def copy(llama: Path, folder: Path, **changes: Any) -> Path:
    shutil.copytree(llama, folder)
    values = json.loads((folder / "config.json").read_text())
    write(folder / "config.json", json.dumps({**values, **changes}))
    return folder


@pytest.mark.parametrize("form", QUANTISED)
def test_quantised_models_are_named(form: str, llama: Path, tmp_path: Path) -> None:
    changes, said = QUANTISED[form]
    assert said in str(quantisation(changes))
    base = copy(llama, tmp_path / "model", **changes)
    # Nothing is loaded: weights that are no weights do not matter.
    write(base / "model.safetensors", b"\0" * 100)
    with pytest.raises(ModelError, match=r"quantised \(.*\), which cannot be trained"):
        find_base(str(base))


@pytest.mark.parametrize(
    "name,plain",
    [
        ("unsloth/Qwen3-4B-unsloth-bnb-4bit", "unsloth/Qwen3-4B"),
        ("unsloth/llama-3-8b-bnb-4bit", "unsloth/llama-3-8b"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "Qwen/Qwen2.5-7B-Instruct"),
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "Qwen/Qwen2.5-7B-Instruct"),
        ("Qwen/Qwen3-8B-FP8", "Qwen/Qwen3-8B"),
        ("TheBloke/Mistral-7B-v0.1-GPTQ", "Mistral-7B-v0.1"),
        ("mlx-community/SmolLM2-1.7B-Instruct-4bit", "SmolLM2-1.7B-Instruct"),
        ("RedHatAI/Llama-3.2-1B-Instruct-quantized.w8a8", "Llama-3.2-1B-Instruct"),
        ("neuralmagic/Llama-3.2-1B-FP8-dynamic", "Llama-3.2-1B"),
        ("HuggingFaceTB/SmolLM2-135M", None),
        ("google/gemma-3-4b-it", None),
        ("microsoft/phi-4", None),
    ],
)
def test_the_plain_model_in_a_name(name: str, plain: str | None) -> None:
    assert plain_name(name) == plain


def test_the_plain_model_in_a_readme(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = copy(llama, tmp_path / "model", quantization={"group_size": 32, "bits": 8})
    write(base / "README.md", "---\nlicense: mit\nbase_model:\n- owner/plain\n---\n# A model\n")
    data = tiny.write_csv(tmp_path / "data.csv", tiny.make_texts(12))
    for command in (
        ("plan", "--model", base),
        ("train", "--model", base, "--data", data, "--output-dir", tmp_path / "run"),
        ("generate", base, "Hello"),
        ("targets", base),
    ):
        assert "MLX, 8 bits" in (said := refused(capsys, *command))
        assert "--model owner/plain" in said


def lfs_pointer(folder: Path) -> None:
    write(
        folder / "model.safetensors",
        "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 269060552\n",
    )


def lfs_pointer_tokenizer(folder: Path) -> None:
    write(folder / "tokenizer.json", "version https://git-lfs.github.com/spec/v1\noid x\nsize 9\n")


def missing_shard(folder: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model.safetensors"}}
    write(folder / "model.safetensors.index.json", json.dumps(index))


def only_an_index(folder: Path) -> None:
    missing_shard(folder)
    (folder / "model.safetensors").unlink()


def damaged_index(folder: Path) -> None:
    write(folder / "model.safetensors.index.json", "[]")


def half_a_file(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    write(folder / "model.safetensors", weights[: len(weights) // 2])


def a_web_page(folder: Path) -> None:
    write(folder / "model.safetensors", "<!doctype html><html>Not found</html>")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def onnx(folder: Path) -> None:
    no_weights(folder)
    (folder / "onnx").mkdir()
    write(folder / "onnx" / "model_quantized.onnx", b"\x08\x07")


def openvino(folder: Path) -> None:
    no_weights(folder)
    write(folder / "openvino_model.xml", "<net/>")


def tensorflow(folder: Path) -> None:
    no_weights(folder)
    write(folder / "tf_model.h5", b"\x89HDF")


def hqq(folder: Path) -> None:
    no_weights(folder)
    write(folder / "qmodel.pt", b"PK")


def old_gptq(folder: Path) -> None:
    write(folder / "quantize_config.json", json.dumps({"bits": 4, "group_size": 128}))


def tokenizer_only(folder: Path) -> None:
    no_weights(folder)
    (folder / "config.json").unlink()


def diffusion(folder: Path) -> None:
    tokenizer_only(folder)
    write(folder / "model_index.json", json.dumps({"_class_name": "StableDiffusionPipeline"}))


def adapter(folder: Path) -> None:
    tokenizer_only(folder)
    write(folder / "adapter_config.json", json.dumps({"peft_type": "LORA"}))


def a_folder_of_models(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    (folder / "config.json").rename(inner / "config.json")
    no_weights(folder)
    (folder / "tokenizer.json").unlink()


def config_lost(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "tokenizer.json").unlink()


FOLDERS = {
    lfs_pointer: "git lfs pull",
    lfs_pointer_tokenizer: "git lfs pull",
    missing_shard: "1 of 2 weight files are missing",
    only_an_index: "2 of 2 weight files are missing",
    damaged_index: "index.json: expected a JSON object, found []",
    half_a_file: "truncated",
    a_web_page: "no safetensors file",
    onnx: "ONNX",
    openvino: "OpenVINO",
    tensorflow: "TensorFlow",
    hqq: "HQQ",
    old_gptq: "GPTQ",
    tokenizer_only: "a tokenizer but no model",
    diffusion: "diffusion",
    adapter: "an adapter, not a base model",
    a_folder_of_models: "There are models in it",
    config_lost: "config.json is missing",
}


@pytest.mark.parametrize("form", FOLDERS, ids=lambda form: form.__name__)
def test_what_a_folder_holds_instead(
    form: Any, llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = copy(llama, tmp_path / "model")
    form(base)
    assert FOLDERS[form] in refused(capsys, "plan", "--model", base)
    data = tiny.write_csv(tmp_path / "data.csv", tiny.make_texts(12))
    told = refused(
        capsys, "train", "--model", base, "--data", data, "--output-dir", tmp_path / "run"
    )
    assert FOLDERS[form] in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "changes,said",
    [
        ({"model_type": "t5", "is_encoder_decoder": True}, "an encoder-decoder model"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "an encoder"),
        ({"model_type": "roberta", "architectures": ["RobertaModel"]}, "an encoder"),
        ({"model_type": "vit", "architectures": ["ViTModel"]}, "another kind of model"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "sorts texts into classes"),
        ({"model_type": "chameleon", "architectures": None}, "an image-text model"),
    ],
)
def test_other_kinds_of_models(
    changes: dict[str, Any],
    said: str,
    llama: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = copy(llama, tmp_path / "model", **changes)
    assert said in refused(capsys, "plan", "--model", base)
    assert said in refused(capsys, "generate", base, "Hello")


def test_a_configuration_alone_can_be_planned_but_not_trained(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = copy(llama, tmp_path / "model")
    no_weights(base)
    assert run(["plan", "--model", str(base)]) == 0
    capsys.readouterr()
    data = tiny.write_csv(tmp_path / "data.csv", tiny.make_texts(12))
    told = refused(
        capsys, "train", "--model", base, "--data", data, "--output-dir", tmp_path / "run"
    )
    assert "the weights cannot be loaded: there are none" in told
    assert not (tmp_path / "run").exists()


def test_whole_models_pass(llama: Path, tmp_path: Path) -> None:
    """Nothing above is said of a model that is in order, quantisation keys set to null included."""
    base = copy(llama, tmp_path / "model", quantization_config=None, quantization=None)
    write(base / "README.md", "# No front matter")
    write(base / "notes.bin", b"mine")
    assert find_base(str(base)).location == str(base)


@pytest.mark.parametrize(
    "model_type,near",
    [("qwen7", "The nearest that it has is qwen"), ("lama", "llama"), ("nothing-like-it", "newer")],
)
def test_kinds_that_transformers_lacks(
    model_type: str, near: str, llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = copy(llama, tmp_path / "model", model_type=model_type)
    said = refused(capsys, "plan", "--model", base)
    assert f"has no models of the type '{model_type}'" in said and near in said


def test_fewer_embeddings_than_tokens(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the configuration alone: no weights are read."""
    base = copy(llama, tmp_path / "model", vocab_size=100)
    data = tiny.write_csv(tmp_path / "data.csv", tiny.make_texts(12))
    said = refused(
        capsys, "train", "--model", base, "--data", data, "--output-dir", tmp_path / "run"
    )
    assert "ids up to 256, the model only 100 embeddings" in said
    assert not (tmp_path / "run").exists()
