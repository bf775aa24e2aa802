"""Models of every family that is written to GGUF are read back: weights, answers and training."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from lorita.engine.block_tensor import BlockTensor
from lorita.engine.packed_model import packed_loss
from lorita.engine.speedup import speedup
from lorita.errors import ModelError
from lorita.models.base import find_base, load_config, load_tokenizer
from lorita.models.base_precision import with_precision
from lorita.models.base_weights import load_model
from lorita.models.gguf_families import FAMILIES
from lorita.models.gguf_layout import LAYOUTS, READ, WRITTEN_ONLY
from lorita.models.memory_needs import base_sizes
from tests.export import models
from tests.models.gguf_bases import with_metadata, write_gguf

OWN = ("granite", "olmo2", "gpt_neox", *(
    family for family in models.NEWER if models.make_config(family).model_type not in WRITTEN_ONLY
))  # fmt: skip
"""Those whose configuration lorita reads itself, but for the first Ministral, a Llama."""
STRETCHED = ("llama-3", "phi3-long")
OTHER_NAMES = ("granitemoehybrid, attention, dense",)
"""They are read as another type with the same numbers under other names."""
COMPUTED = ("A_log",)
IDS = torch.arange(1, 40) * 5 % 200


def same_weights(found: Any, expected: Any, family: str) -> None:
    own = expected.state_dict()
    assert found.state_dict().keys() == own.keys()
    for name, weight in found.state_dict().items():
        with_offset = family == "qwen3_5_text" and name.endswith("norm.weight")
        if name.endswith(COMPUTED) or with_offset:
            torch.testing.assert_close(weight, own[name], rtol=1e-6, atol=1e-6)
        else:
            assert torch.equal(weight, own[name]), name


@pytest.mark.parametrize("family", [*OWN, *STRETCHED])
def test_read_back(family: str, tmp_path: Path) -> None:
    """In float32: the same numbers, and the same answers."""
    base = find_base(str(write_gguf(tmp_path, family)))
    found, expected = load_model(base, torch.float32), models.make_model(family)
    if family not in OTHER_NAMES:
        same_weights(found, expected, family)
    with torch.no_grad():
        logits, wanted = (model(IDS[None]).logits for model in (found, expected))
    torch.testing.assert_close(logits, wanted, rtol=1e-5, atol=1e-5)


def test_every_family_is_read_back() -> None:
    """All that can be; the others are in ``test_gguf_weights``."""
    from tests.models.test_gguf_weights import READ_BY_TRANSFORMERS

    read = {models.make_config(f).model_type for f in (*OWN, *READ_BY_TRANSFORMERS)}
    assert read == {*READ}
    kinds = {family.kind for family in FAMILIES.values()}
    assert kinds < {*LAYOUTS}


def test_the_docs_name_those_that_are_only_written() -> None:
    text = (Path(__file__).parents[2] / "docs/models.md").read_text(encoding="utf-8")
    sentence = (
        " ".join(text.split()).partition("read that way, but for ")[2].partition(", whose")[0]
    )
    named = set(sentence.replace(" and ", ", ").split(", "))
    names = dict(re.findall(r"^\| ([^|]+) \| `(\w+)` \|", text, re.M))
    assert named == {name for name, kind in names.items() if kind in WRITTEN_ONLY}


def loss_and_gradients(base: Any, family: str) -> tuple[Any, torch.Tensor, list[torch.Tensor]]:
    """The model, and a training step on it as a run does it."""
    model = models.with_adapter(load_model(base, torch.float32), family)
    speedup(model)
    loss = packed_loss(model, IDS, IDS, (20, 19))
    trained = [p for p in model.parameters() if p.requires_grad]
    return model, loss.detach(), list(torch.autograd.grad(loss, trained))


@pytest.mark.parametrize("family", OWN)
def test_blocks_train_as_their_numbers(family: str, tmp_path: Path) -> None:
    """And the memory that is reckoned for both is what they take."""
    base = find_base(str(write_gguf(tmp_path, family, quantize="q8_0")))
    plain, *expected = loss_and_gradients(base, family)
    kept, *found = loss_and_gradients(with_precision(base, "native"), family)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert all(bool(grad.isfinite().all()) for grad in found[1])
    assert any(bool(grad.abs().sum() > 0) for grad in found[1])
    frozen = [p for p in kept.parameters() if not p.requires_grad]
    held = [p for p in frozen if isinstance(p, BlockTensor)]
    sizes = base_sizes(base)
    assert sizes is not None
    assert sum(p.blocks.rows.numel() for p in held) == sizes.blocks > 0
    assert sum(p.numel() for p in frozen if not isinstance(p, BlockTensor)) == sizes.unpacked
    assert not [p for p in plain.parameters() if isinstance(p, BlockTensor)]


@pytest.mark.parametrize(
    ("family", "whole"), [("smollm3", True), ("qwen3_moe", False), ("qwen3_5_text", False)]
)
def test_which_matrices_stay_blocks(family: str, whole: bool, tmp_path: Path) -> None:
    """All but experts, and matrices whose columns are in another order."""
    base = find_base(str(write_gguf(tmp_path, family, quantize="q8_0")))
    model = load_model(with_precision(base, "native"), torch.float32)
    expanded = [
        name
        for name, p in model.named_parameters()
        if p.ndim > 1 and not isinstance(p, BlockTensor) and "conv1d" not in name
    ]
    assert not expanded if whole else expanded
    assert all("experts" in name or "linear_attn.out_proj" in name for name in expanded)


CHANGES: dict[str, tuple[str, dict[str, Any], str]] = {
    "a key": ("smollm3", {"smollm3.attention.clamp_kqv": 8.0}, "attention.clamp_kqv"),
    "scaling": ("granite", {"granite.rope.scaling.type": "dynamic"}, "'dynamic'"),
    "yarn": ("ministral3", {"mistral3.rope.scaling.yarn_ext_factor": 0.5}, "yarn_ext_factor"),
    "positions": ("granite", {"granite.rope.scaling.finetuned": False}, "finetuned"),
    "a part of heads": ("olmo2", {"olmo2.rope.dimension_count": 4}, "dimension_count is 4"),
    "layers": ("smollm3", {"smollm3.block_count": 10**9}, "more than tensors"),
    "a text": ("lfm2", {"lfm2.shortconv.l_cache": "three"}, "'three', no number"),
    "heads": ("lfm2", {"lfm2.attention.head_count_kv": [2, 0]}, "each layer"),
    "a gate": ("qwen3_moe", {"qwen3moe.expert_gating_func": 2}, "expert_gating_func"),
    "experts": ("granite", {"granite.expert_count": 4}, "expert_count"),
    "no numbers": ("gpt_neox", {"gptneox.attention.head_count": 0}, ""),
    "negative": ("olmo2", {"olmo2.embedding_length": -32}, ""),
    "splitting": ("smollm3", {"tokenizer.ggml.pre": "superbpe"}, "'superbpe'"),
    "no splitting": ("smollm3", {"tokenizer.ggml.pre": ""}, "''"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_not_understood(name: str, tmp_path: Path) -> None:
    """One message names the file and the key."""
    family, changed, said = CHANGES[name]
    path = with_metadata(write_gguf(tmp_path, family), changed)
    with pytest.raises(ModelError) as caught:
        base = find_base(str(path))
        load_config(base)
        load_tokenizer(base)
    assert len(caught.value.problems) == 1
    assert path.name in str(caught.value) and said in str(caught.value)


def test_a_missing_key(tmp_path: Path) -> None:
    path = with_metadata(write_gguf(tmp_path, "olmo2"), {}, ["olmo2.block_count"])
    with pytest.raises(ModelError, match=r"olmo2\.block_count is missing"):
        load_config(find_base(str(path)))


def test_another_shape(tmp_path: Path) -> None:
    """The header and the tensors do not agree: in a row order, in halves, and simply."""
    for family, changed, said in (
        ("smollm3", {"smollm3.attention.head_count_kv": 4}, "has the shape"),
        ("qwen3_moe", {"qwen3moe.expert_feed_forward_length": 8}, "has the shape"),
        ("qwen3_5_text", {"qwen35.ssm.time_step_rank": 2}, "has the shape"),
    ):
        path = with_metadata(write_gguf(tmp_path, family), changed)
        with pytest.raises(ModelError, match=said):
            load_model(find_base(str(path)), torch.float32)


def test_as_the_converter_writes_them(tmp_path: Path) -> None:
    """Granite 4 without states has keys for them; OLMo 3 says which layers have windows."""
    states = {f"granite.ssm.{key}": 4 for key in ("conv_kernel", "state_size", "inner_size")}
    heads = {"granite.attention.head_count_kv": [2, 2], "granite.expert_count": 0}
    path = with_metadata(write_gguf(tmp_path, "granite"), {**states, **heads})
    config: Any = load_config(find_base(str(path)))
    assert (config.model_type, config.num_key_value_heads) == ("granite", 2)
    yarn = {"type": "yarn", "factor": 8.0, "original_context_length": 32, "attn_factor": 1.2}
    changed: dict[str, Any] = {f"olmo2.rope.scaling.{key}": v for key, v in yarn.items()}
    pattern = {"olmo2.attention.sliding_window_pattern": [True, False, True, False]}
    path = with_metadata(write_gguf(tmp_path, "olmo3"), {**changed, **pattern})
    config = load_config(find_base(str(path)))
    assert config.layer_types == ["sliding_attention", "full_attention"] * 2
    rope = config.rope_parameters
    assert rope["sliding_attention"]["rope_type"] == "default"
    full = rope["full_attention"]
    assert (full["rope_type"], full["factor"], full["attention_factor"]) == ("yarn", 8.0, 1.2)
