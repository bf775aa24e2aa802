"""GGUF files read by lorita hold what transformers reads from them, in every family."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFWriter
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from lorita.engine.kernels import expand, native
from lorita.errors import LoritaWarning, ModelError
from lorita.models.base import (
    find_base,
    folder_without_weights,
    load_config,
    load_tokenizer,
)
from lorita.models.base_weights import load_model
from lorita.models.gguf_files import open_mapped
from lorita.models.gguf_tensors import read_tensor
from lorita.system.quiet import quiet_libraries
from tests.engine.kernels.test_expand import HALVES, by_gguf, random_blocks
from tests.export.models import make_model
from tests.models.gguf_bases import finish, write_gguf

COMPLETED = ("query_pre_attn_scalar", "layer_norm_epsilon")
"""Of those below, where lorita goes by the file and transformers by its defaults or by float32."""
READ_BY_TRANSFORMERS = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "gpt2",
                        "bloom", "starcoder2")  # fmt: skip


@pytest.mark.parametrize("family", READ_BY_TRANSFORMERS)
def test_equal_to_what_was_written(family: str, tmp_path: Path) -> None:
    """Written by export in float32 and read back: the model as it was."""
    path = write_gguf(tmp_path, family)
    found = load_model(find_base(str(path)), torch.float32)
    expected = make_model(family).state_dict()
    for name, weight in found.state_dict().items():
        if "gemma" in family and name.endswith("norm.weight"):  # one was added, and is taken off
            torch.testing.assert_close(weight, expected[name], rtol=0, atol=1e-6)
        else:
            assert torch.equal(weight, expected[name]), name


@pytest.mark.parametrize("family", ["mistral", "qwen2", "gemma3", "bloom"])
def test_equal_to_what_transformers_reads(family: str, tmp_path: Path) -> None:
    path = write_gguf(tmp_path, family, quantize="q8_0")
    where: dict[str, Any] = {"pretrained_model_name_or_path": tmp_path, "gguf_file": path.name}
    with quiet_libraries(hide_bars=True):
        theirs = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
        config, tokenizer = (
            AutoConfig.from_pretrained(**where),
            AutoTokenizer.from_pretrained(**where),
        )
    base = find_base(str(path))
    ours = load_model(base, torch.bfloat16)
    for name, weight in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], weight.to(torch.bfloat16)), name
    assert _plain(load_config(base)) == _plain(config)
    assert load_tokenizer(base).get_vocab() == tokenizer.get_vocab()
    tokenizer.save_pretrained(tmp_path / "theirs")
    folder = folder_without_weights(path)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert (folder / file).read_bytes() == (tmp_path / "theirs" / file).read_bytes()


def _plain(config: Any) -> dict[str, Any]:
    leave_out = ("_name_or_path", "quantization_config", "vocab_size", "transformers_version",
                 *COMPLETED)  # fmt: skip
    return {key: value for key, value in config.to_dict().items() if key not in leave_out}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("compiled", [True, False])
def test_every_kind(compiled: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    """The kernel, gguf-py without it, and kinds that only gguf-py knows."""
    kinds = [*HALVES, Kind.F32, Kind.F16, Kind.BF16, Kind.TQ2_0]
    writer, expected = GGUFWriter(tmp_path / "a.gguf", "llama"), {}
    for kind in kinds:
        if kind in HALVES:
            array, raw = random_blocks(kind, 30), kind
        else:
            floats = np.random.default_rng(1).standard_normal((30, 256)).astype(np.float32)
            array, raw = gguf.quants.quantize(floats, kind), kind
        expected[kind.name] = by_gguf(array, kind).to(dtype)
        writer.add_tensor(kind.name, array, raw_dtype=raw)
    finish(writer)
    file = open_mapped(tmp_path / "a.gguf")
    with native.disabled() if not compiled else warnings.catch_warnings():
        for name, numbers in expected.items():
            found = read_tensor(file, file.tensors[name], dtype)
            assert torch.equal(found, numbers.view(found.shape)), name
    order = torch.randperm(30)
    moved = read_tensor(file, file.tensors["Q4_K"], torch.float32, order)
    assert torch.equal(moved.to(dtype), expected["Q4_K"].view(moved.shape)[order])


def test_slices_without_a_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(expand, "SLICE", 1000)
    test_every_kind(False, torch.bfloat16, tmp_path)


def test_tensors_without_a_place_are_named(tmp_path: Path) -> None:
    extra = {"blk.0.strange.weight": np.ones((2, 32), np.float32),
             "rope_freqs.weight": np.ones(4, np.float32)}  # fmt: skip
    path = write_gguf(tmp_path, "llama", extra=extra)
    with pytest.warns(LoritaWarning, match=r"1 tensors of the file .* blk.0.strange.weight"):
        load_model(find_base(str(path)), torch.float32)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    path = write_gguf(tmp_path, "llama", leave_out="blk.1.ffn_up.weight")
    with pytest.raises(ModelError, match=r"1 weights are missing .*layers.1.mlp.up_proj.weight"):
        load_model(find_base(str(path)), torch.float32)


def test_another_shape_is_refused(tmp_path: Path) -> None:
    wrong = {"blk.1.ffn_up.weight": np.ones((7, 32), np.float32)}
    path = write_gguf(tmp_path, "llama", leave_out="blk.1.ffn_up.weight", extra=wrong)
    with pytest.raises(ModelError, match=r"blk.1.ffn_up.weight has the shape \[7, 32\]"):
        load_model(find_base(str(path)), torch.float32)
