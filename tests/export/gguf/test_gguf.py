"""GGUF files of every family, run by llama.cpp itself; adapters to GGUF and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from lorita import load
from lorita.cli import run as lorita
from lorita.export.gguf.adapter_file import lora_matrices, write_adapter
from lorita.export.gguf.export import export_gguf
from lorita.export.gguf.file import write_merged
from lorita.inference.llamacpp import LlamaCpp
from lorita.models.adapter import save_adapter
from lorita.models.gguf_layout import LAYOUTS
from tests.command import refused
from tests.export import models
from tests.export.merged.test_merge import saved

IDS = [5, 30, 100, 200, 7, 9, 41, 17, 88]
"""Longer than the sliding windows of the tiny models."""
FAST = (
    "llama", "qwen2", "gemma3", "gpt2", "bloom", "lfm2", "qwen3_moe", "granitemoehybrid",
    "qwen3_5_text", "gemma4_text", "gemma4_text; experts", "gemma3n_text",
)  # fmt: skip
_ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
_LAYERS = [*_ATTENTION, "gate_proj", "up_proj", "down_proj"]
_PER_LAYER = ["per_layer_input_gate", "per_layer_projection"]
_SHARED = [*_LAYERS, "shared_expert_gate"]
ADAPTED = {
    "qwen3_moe": _ATTENTION,
    "mixtral": _ATTENTION,
    "olmoe": _ATTENTION,
    "qwen3_next": [*_ATTENTION, "shared_expert_gate", "in_proj_qkvz", "in_proj_ba", "out_proj"],
    "qwen3_5_moe_text": [
        *_SHARED, "in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "out_proj",
    ],
    "lfm2_moe": ["q_proj", "k_proj", "v_proj", "out_proj", "in_proj", "w1", "w2", "w3"],
    "gemma4_text": [*_LAYERS, *_PER_LAYER],
    "gemma4_text; experts": _LAYERS,
    "gemma3n_text": [
        *_LAYERS, *_PER_LAYER, "linear_left", "linear_right", "prediction_coefs",
    ],
}  # fmt: skip
"""What an adapter file can hold of families whose all-linear includes more."""
NOISY = {"gemma3n_text": 0.05}
"""llama.cpp rounds GELU to half precision, which 25 layers of random weights amplify."""


def likeliest(path: Path, adapter: Path | None = None) -> dict[int, float]:
    return LlamaCpp(path, adapter=adapter, context=64, threads=1).likeliest(IDS)


def distance(model: torch.nn.Module, said: dict[int, float]) -> float:
    """The largest difference in log-probability over the tokens that llama.cpp reports."""
    with torch.no_grad():
        logits_V = model(input_ids=torch.tensor([IDS])).logits[0, -1]
    ours = logits_V.float().log_softmax(-1)
    assert len(said) == 10
    assert set(said) - {0} <= set(ours.topk(11).indices.tolist())
    return max(abs(float(ours[token]) - value) for token, value in said.items())


def write_model(model: Any, path: Path, quantize: str = "f32") -> Path:
    write_merged(
        model,
        models.make_tokenizer(),
        path,
        quantize=quantize,
        base_name="tiny",
        base_file=None,
        name="tiny",
    )
    return path


@pytest.mark.parametrize(
    "family",
    [f if f in FAST else pytest.param(f, marks=pytest.mark.slow) for f in models.FAMILIES],
)
def test_llama_cpp_says_the_same(family: str, tmp_path: Path) -> None:
    """As one merged file, and as an adapter on the base's file."""
    limit = NOISY.get(family, 0.01)
    tuned = models.with_adapter(models.make_model(family), family, use_rslora=True)
    merged = write_model(tuned, tmp_path / "merged.gguf")
    assert distance(tuned, likeliest(merged)) < limit
    idle = models.with_adapter(models.make_model(family), family, zero=True)
    base = write_model(idle, tmp_path / "base.gguf")
    assert not distance_within(tuned, likeliest(base), 0.1)
    if family in ADAPTED:
        tuned = models.with_adapter(models.make_model(family), target_modules=ADAPTED[family])
    write_adapter(tuned, tmp_path / "adapter.gguf", base_name="tiny")
    assert distance(tuned, likeliest(base, tmp_path / "adapter.gguf")) < limit


def test_every_layout_is_tested() -> None:
    kinds = {models.make_config(f).model_type for f in models.GGUF_FAMILIES} | {*models.NEWER}
    kinds |= {name.partition(";")[0] for name in models.GEMMAS}
    assert kinds == {*LAYOUTS}


KINDS: dict[str, dict[str, Any]] = {
    "biases": {"bias": "all"},
    "dora": {"use_dora": True},
    "whole head": {"modules_to_save": ["lm_head"], "target_modules": ["q_proj"]},
    "embeddings": {"target_modules": ["embed_tokens", "q_proj"]},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [False, True])
def test_merged_of_every_kind(kind: str, tied: bool, tmp_path: Path) -> None:
    tuned = models.with_adapter(models.make_model("llama", tie_word_embeddings=tied), **KINDS[kind])
    assert distance(tuned, likeliest(write_model(tuned, tmp_path / "merged.gguf"))) < 0.01


@pytest.mark.parametrize("options", [{"rank_pattern": {"q_proj": 2}}, KINDS["embeddings"]])
def test_adapters_with_ranks_and_embeddings(options: dict[str, Any], tmp_path: Path) -> None:
    tuned = models.with_adapter(models.make_model("llama"), **options)
    idle = models.with_adapter(models.make_model("llama"), zero=True)
    base = write_model(idle, tmp_path / "base.gguf")
    write_adapter(tuned, tmp_path / "adapter.gguf", base_name="tiny")
    assert distance(tuned, likeliest(base, tmp_path / "adapter.gguf")) < 0.01


def test_an_activated_adapter_acts_in_llama_cpp_as_in_peft(tmp_path: Path) -> None:
    """From its invocation on, or from the token before it, as llama.cpp's server has done; a prompt
    without the invocation is the base's."""
    base = tmp_path / "base.gguf"
    write_model(models.with_adapter(models.make_model("llama"), zero=True), base)
    for invocation, starts in ((IDS[3:6], (3, 2)), (IDS[:3], (0,)), ([11, 12], (None,))):
        tuned = models.with_adapter(models.make_model("llama"), alora_invocation_tokens=invocation)
        write_adapter(tuned, tmp_path / "adapter.gguf", base_name="tiny")
        said = likeliest(base, tmp_path / "adapter.gguf")
        apart = []
        for start in starts:
            tokens = [11, 12] if start is None else IDS[start:6]
            same = models.with_adapter(models.make_model("llama"), alora_invocation_tokens=tokens)
            with torch.no_grad():
                ours = same(input_ids=torch.tensor([IDS])).logits[0, -1].log_softmax(-1)
            apart.append(max(abs(float(ours[token]) - value) for token, value in said.items()))
        assert min(apart) < 0.01, (invocation, apart)


@pytest.mark.parametrize("quantize", ["f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1"])
def test_quantised_files_load(quantize: str, tmp_path: Path) -> None:
    tuned = models.with_adapter(models.make_model("qwen2"))
    path = write_model(tuned, tmp_path / "model.gguf", quantize)
    assert distance_within(tuned, likeliest(path), 3.0)
    assert path.stat().st_size < write_model(tuned, tmp_path / "f32.gguf").stat().st_size


def distance_within(model: torch.nn.Module, said: dict[int, float], limit: float) -> bool:
    with torch.no_grad():
        ours = model(input_ids=torch.tensor([IDS])).logits[0, -1].log_softmax(-1)
    return max(abs(float(ours[token]) - value) for token, value in said.items()) < limit


def test_tokens_and_their_ends(tmp_path: Path) -> None:
    """llama.cpp splits a text into the same tokens as the tokenizer."""
    tokenizer = models.make_tokenizer()
    tuned = models.with_adapter(models.make_model("llama"))
    server = LlamaCpp(write_model(tuned, tmp_path / "model.gguf"), context=64, threads=1)
    for text in ("the thing", " Größe\n\n12,5 €", "a<|endoftext|>b"):
        assert server.tokenize(text) == tokenizer(text)["input_ids"]


# --- to GGUF and back -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "lower"), [("llama", "q_proj"), ("gpt2", "c_proj"), ("bloom", "dense")]
)
def test_gguf_and_back(family: str, lower: str, tmp_path: Path) -> None:
    base = models.save_base(tmp_path / "base", family)
    run = saved(tmp_path / "run", base, family, use_rslora=True, rank_pattern={lower: 2})
    export_gguf(run, tmp_path / "adapter.gguf")
    there = load(run, dtype="float32")
    back = load(tmp_path / "adapter.gguf", base=str(base), dtype="float32")
    ids = torch.tensor([IDS])
    with torch.no_grad():
        difference = there.model(ids).logits - back.model(ids).logits
    assert float(difference.abs().max()) < 1e-5
    ours, theirs = matrices(there.model), matrices(back.model)
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[n], theirs[n], rtol=1e-6, atol=1e-7) for n in ours)


def matrices(model: Any) -> dict[str, torch.Tensor]:
    """B·A times the scale, by module."""
    from peft.tuners.lora import LoraLayer

    found = {}
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, LoraLayer):
            down, up = lora_matrices(module)
            found[name] = up @ down
    return found


def test_peft_and_back(llama: Path, tmp_path: Path) -> None:
    """From lorita to PEFT and back, the bytes stay the same."""
    from peft import PeftModel

    run = saved(tmp_path / "run", llama, bias="lora_only", use_rslora=True)
    base = AutoModelForCausalLM.from_pretrained(llama)
    PeftModel.from_pretrained(base, run).save_pretrained(tmp_path / "peft")
    again = load(tmp_path / "peft", base=str(llama), dtype="float32")
    (tmp_path / "again").mkdir()
    save_adapter(again.model, tmp_path / "again")
    first = load_file(run / "adapter_model.safetensors")
    last = load_file(tmp_path / "again/adapter_model.safetensors")
    assert first.keys() == last.keys() and all(first[n].equal(last[n]) for n in first)
    ours = (run / "adapter_model.safetensors").read_bytes()
    assert ours == (tmp_path / "again/adapter_model.safetensors").read_bytes()


# --- a base that is itself a GGUF file ------------------------------------------------------


def test_a_gguf_base_keeps_its_metadata(tmp_path: Path) -> None:
    import gguf

    # transformers does not recognise biases of a Llama in a GGUF file
    plain = models.make_model("llama", attention_bias=False)
    base = write_model(models.with_adapter(plain, zero=True), tmp_path / "base.gguf", "q8_0")
    run = saved_on_gguf(tmp_path / "run", base)
    made = export_gguf(run, tmp_path / "merged.gguf", merged=True, quantize="f32")
    assert any("Metadata" in note for note in made.notes)
    assert any("of 3 answers are the same" in line for line in made.checked)
    before, after = gguf.GGUFReader(base).fields, gguf.GGUFReader(made.path).fields
    own = {"general.file_type", "general.name"}
    assert before.keys() == after.keys()
    assert all(
        before[k].contents() == after[k].contents()
        for k in before
        if k not in own and not k.startswith("GGUF.")
    )
    tuned = load(run, dtype="float32").model
    assert distance(tuned, likeliest(made.path)) < 0.01
    export_gguf(run, tmp_path / "adapter.gguf")
    # llama.cpp rounds the inputs of matrices with eight-bit weights
    assert distance(tuned, likeliest(base, tmp_path / "adapter.gguf")) < 0.3


def saved_on_gguf(folder: Path, base: Path) -> Path:
    from lorita.models.base import find_base
    from lorita.models.base_weights import load_model

    model = load_model(find_base(str(base)), torch.float32)
    folder.mkdir()
    save_adapter(models.with_adapter(model, target_modules=["q_proj", "down_proj"]), folder)
    return folder


# --- mistakes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"use_dora": True}, "DoRA's magnitudes"),
        ({"bias": "all"}, "trained biases"),
        ({"modules_to_save": ["lm_head"]}, "whole modules (lm_head)"),
        ({"init_lora_weights": "pissa"}, "a base changed by pissa"),
    ],
)
def test_what_an_adapter_file_cannot_hold(
    options: dict[str, Any],
    said: str,
    llama: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = saved(tmp_path / "run", llama, **options)
    message = refused(capsys, "export", "gguf", run, tmp_path / "out.gguf")
    assert said in message and "--merged" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_mistakes(llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = saved(tmp_path / "run", llama)
    out = tmp_path / "out.gguf"
    cases: list[tuple[tuple[object, ...], str]] = [
        ((run, out, "--merged", "--quantize", "q4_k_m"), "llama-quantize"),
        ((run, out, "--merged", "--quantize", "int4"), "cannot write this format"),
        ((run, out, "--quantize", "q8_0"), "quantize needs --merged"),
        ((tmp_path / "none.gguf", out), "no such run folder"),
    ]
    for arguments, said in cases:
        assert said in refused(capsys, "export", "gguf", *arguments)
    out.write_text("precious")
    assert "--overwrite" in refused(capsys, "export", "gguf", run, out)
    assert "another type" in refused(capsys, "export", "gguf", run, out, "--overwrite")
    assert out.read_text() == "precious"
    out.write_bytes(b"GGUF of before")
    assert lorita(["export", "gguf", str(run), str(out), "--overwrite"]) == 0
    assert out.read_bytes()[:4] == b"GGUF"
    assert "does not say where its base is" in refused(capsys, "merge", out, tmp_path / "merged")
