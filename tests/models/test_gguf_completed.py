"""What transformers leaves out of a GGUF file's metadata: set, refused, or named."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from lorita.errors import LoritaWarning, ModelError
from lorita.models.base import find_base, load_config
from lorita.models.base_weights import load_model
from lorita.models.gguf_completed import UNREAD
from lorita.models.gguf_config import NOT_READ
from lorita.models.gguf_layout import LAYOUTS, WRITTEN_ONLY
from tests.export import models
from tests.models.gguf_bases import with_metadata, write_gguf
from tests.models.test_gguf_weights import READ_BY_TRANSFORMERS

IDS = (torch.arange(5, 69) * 7 % 200)[None]


def config_of(path: Path) -> Any:
    return load_config(find_base(str(path)))


@pytest.mark.parametrize("family", [*READ_BY_TRANSFORMERS, "llama-3", "phi3-long"])
def test_the_model_answers_as_the_one_that_was_written(family: str, tmp_path: Path) -> None:
    """Equal weights are not enough: scales, caps, windows and positions are numbers, too."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", LoritaWarning)
        found = load_model(find_base(str(write_gguf(tmp_path, family))), torch.float32)
    expected = models.make_model(family).eval()
    with torch.no_grad():
        logits, wanted = (model(IDS).logits for model in (found, expected))
    torch.testing.assert_close(logits, wanted, rtol=1e-5, atol=1e-5)


LINEAR = {"type": "linear", "factor": 8.0}
YARN = {"type": "yarn", "factor": 4.0, "original_context_length": 32}


def scaled(architecture: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{architecture}.rope.scaling.{key}": value for key, value in values.items()}


@pytest.mark.parametrize("values", [LINEAR, YARN], ids=["linear", "yarn"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "starcoder2"])
def test_scaled_positions(family: str, values: dict[str, Any], tmp_path: Path) -> None:
    rope = config_of(with_metadata(write_gguf(tmp_path, family), scaled(family, values)))
    found = rope.rope_parameters
    assert (found["rope_type"], found["factor"]) == (values["type"], values["factor"])
    assert found.get("original_max_position_embeddings") == values.get("original_context_length")


def test_gemma_scales_positions_in_full_attention_only(tmp_path: Path) -> None:
    changed = {**scaled("gemma3", LINEAR), "gemma3.rope.freq_base_swa": 5000.0}
    rope = config_of(with_metadata(write_gguf(tmp_path, "gemma3"), changed)).rope_parameters
    assert (rope["full_attention"]["rope_type"], rope["full_attention"]["factor"]) == ("linear", 8)
    near = rope["sliding_attention"]
    assert (near["rope_type"], near["rope_theta"]) == ("default", 5000.0)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, (1e6, 1e4)),
        ({"freq_base": 3e5, "freq_base_swa": 2e4}, (3e5, 2e4)),
        ({"global.freq_base": 4e5, "local.freq_base": 3e4}, (4e5, 3e4)),
    ],
    ids=["none", "llama.cpp", "Ollama"],
)
def test_gemma_has_two_bases(
    keys: dict[str, float], expected: tuple[float, float], tmp_path: Path
) -> None:
    changed = {f"gemma3.rope.{key}": value for key, value in keys.items()}
    written = ["gemma3.rope.freq_base", "gemma3.rope.freq_base_swa"]
    path = with_metadata(write_gguf(tmp_path, "gemma3"), changed, written)
    rope = config_of(path).rope_parameters
    assert tuple(rope[k]["rope_theta"] for k in ("full_attention", "sliding_attention")) == expected


def test_the_base_of_the_frequencies(tmp_path: Path) -> None:
    path = with_metadata(write_gguf(tmp_path, "starcoder2"), {"starcoder2.rope.freq_base": 1e6})
    assert config_of(path).rope_parameters["rope_theta"] == 1e6


@pytest.mark.parametrize(
    ("family", "layers", "kind"), [("gemma2", 46, "gemma2"), ("gemma3", 62, "gemma3_text")]
)
def test_the_biggest_gemma_is_scaled_by_the_hidden_size(
    family: str, layers: int, kind: str, tmp_path: Path
) -> None:
    changed = {f"{family}.block_count": layers, f"{family}.attention.key_length": 16}
    changed |= {f"{family}.attention.value_length": 16, f"{family}.rope.dimension_count": 16}
    config = config_of(with_metadata(write_gguf(tmp_path, family), changed))
    assert (config.model_type, config.head_dim) == (kind, 16)
    assert config.query_pre_attn_scalar == config.hidden_size // config.num_attention_heads != 16


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "experts": ("llama", {"llama.expert_count": 8}, "expert_count is 8"),
    "a scale": ("llama", {"llama.logit_scale": 0.5}, "logit_scale is 0.5"),
    "clamped": ("qwen2", {"qwen2.attention.clamp_kqv": 8.0}, "clamp_kqv is 8"),
    "capped": ("qwen3", {"qwen3.final_logit_softcapping": 30.0}, "softcapping is 30"),
    "scaled": ("llama", scaled("llama", {"type": "dynamic"}), "'dynamic'"),
    "a part": ("llama", {"llama.attention.key_length": 8, "llama.rope.dimension_count": 4}, "4"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_set_is_refused(name: str, tmp_path: Path) -> None:
    family, changed, said = REFUSED[name]
    path = with_metadata(write_gguf(tmp_path, family), changed)
    with pytest.raises(ModelError) as caught:
        config_of(path)
    assert said in str(caught.value) and path.name in str(caught.value)


WRITTEN = [
    family
    for family in (*models.GGUF_FAMILIES, *models.NEWER, *models.GEMMAS)
    if models.make_config(family).model_type in WRITTEN_ONLY
]


@pytest.mark.parametrize("family", WRITTEN)
def test_what_is_only_written_is_never_read_wrongly(family: str, tmp_path: Path) -> None:
    """It is refused in one message, or, as Falcon, the same."""
    path = write_gguf(tmp_path, family)
    try:
        found = load_model(find_base(str(path)), torch.float32)
    except ModelError as error:
        assert len(error.problems) == 1 and path.name in str(error)
        return
    with torch.no_grad():
        logits, wanted = (model(IDS).logits for model in (found, models.make_model(family).eval()))
    torch.testing.assert_close(logits, wanted, rtol=1e-5, atol=1e-5)


def test_those_that_are_refused() -> None:
    """All that are only written, but for a Mixtral's, which are a Llama's, and Falcon's."""
    written = {LAYOUTS[kind].architecture for kind in WRITTEN_ONLY}
    assert written - {"llama", "falcon"} == NOT_READ


def test_values_that_change_nothing_are_accepted(tmp_path: Path) -> None:
    changed = {"expert_count": 0, "logit_scale": 1.0, "rope.scaling.factor": 1.0}
    path = with_metadata(
        write_gguf(tmp_path, "llama"), {f"llama.{key}": value for key, value in changed.items()}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", LoritaWarning)
        config_of(path)


def test_a_key_that_nobody_knows_is_named(tmp_path: Path) -> None:
    changed = {"llama.attention.wobble": 3, "llama.vision.block_count": 2}
    path = with_metadata(write_gguf(tmp_path, "llama"), changed)
    for _ in range(2):  # the second time, the configuration is that in the cache
        with pytest.warns(LoritaWarning, match=r"what attention\.wobble says about the model"):
            model = load_model(find_base(str(path)), torch.float32)
    assert not hasattr(model.config, UNREAD)
