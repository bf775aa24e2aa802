"""What newer families need beside the comparison of ``test_gguf``: refusals, tokens, images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers import models as token_models
from transformers import PreTrainedTokenizerFast

import lorita
from lorita.errors import UserError
from lorita.export.gguf.adapter_file import NotAlone, write_adapter
from lorita.export.gguf.export import export_gguf
from lorita.export.gguf.file import write_merged
from lorita.export.gguf.metadata import add_metadata
from lorita.export.gguf.vocabulary import SPLITS
from lorita.export.gguf.writer import new_writer
from lorita.inference.llamacpp import LlamaCpp
from lorita.models.base import find_base
from lorita.models.base_weights import load_model
from lorita.models.gguf_layout import find_layout
from tests.export import models
from tests.export.gguf.test_gguf import NOISY, distance, distance_within, likeliest, write_model
from tests.models.gguf_bases import write_with
from tests.runs.test_image_text import save

QUANTISED = (
    "gemma3n_text", "gemma4_text; experts", "granitemoehybrid", "jamba", "lfm2_moe", "mamba2",
    "qwen3_5_moe_text", "qwen3_next",
)  # fmt: skip
SLIDING, FULL = "sliding_attention", "full_attention"
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("gemma3n_text", {"final_logit_softcapping": 20.0, "altup_active_idx": 1}, "altup_active_idx"),
    ("gemma3n_text", {"laurel_rank": 32}, "laurel_rank = 32 (expected: 64)"),
    ("gemma3n_text", {"hidden_size_per_layer_input": 128}, "hidden_size_per_layer_input"),
    ("gemma3n_text", {"activation_sparsity_pattern": [0.0] * 25}, "first ten layers"),
    ("gemma3n_text", {"num_kv_shared_layers": 10}, "after the 20th"),
    ("gemma3n_text", {"layer_types": [SLIDING, FULL] * 12 + [FULL]}, "every 5th layer"),
    ("gemma4_text", {"num_kv_shared_layers": 1}, "a window in the first of them"),
    ("gemma4_text", {"vocab_size_per_layer_input": 200}, "264 embeddings for each layer"),
    ("gemma4_text", {"hidden_activation": "silu"}, "hidden_activation = 'silu'"),
    ("gemma", {"tie_word_embeddings": False}, "tie_word_embeddings"),
    ("olmoe", {"norm_topk_prob": True, "clip_qkv": 8.0}, "clip_qkv = 8.0"),
    ("olmoe", {"num_key_value_heads": 2}, "as many heads of keys"),
    ("mixtral", {"hidden_act": "gelu"}, "hidden_act"),
    ("llama", {"hidden_act": "relu"}, "hidden_act = 'relu' (expected: 'silu')"),
    ("gemma2", {"hidden_activation": "silu"}, "hidden_activation = 'silu'"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
    ("gpt_neox", {"hidden_act": "relu"}, "hidden_act"),
    ("bloom", {"apply_residual_connection_post_layernorm": True}, "post_layernorm"),
    ("gemma3", {"query_pre_attn_scalar": 16}, "query_pre_attn_scalar"),
    ("qwen3_next", {"norm_topk_prob": False}, "norm_topk_prob"),
    ("qwen3_next", {"linear_value_head_dim": 16}, "keys and values of one size"),
    ("lfm2_moe", {"routed_scaling_factor": 2.0}, "routed_scaling_factor"),
    ("cohere2", {"layer_types": [SLIDING, FULL] * 2}, "every 4th layer"),
    ("falcon-rotary", {"alibi": True}, "alibi"),
    ("falcon-rotary", {"parallel_attn": False, "bias": True}, "bias = True"),
]


@pytest.mark.parametrize(("family", "changes", "said"), REFUSED)
def test_what_llama_cpp_would_not_know_of_is_refused(
    family: str, changes: dict[str, Any], said: str
) -> None:
    config = models.make_config(family)
    add_metadata(new_writer(find_layout(config, "tiny")), config)
    for name, value in changes.items():
        setattr(config, name, value)
    with pytest.raises(UserError) as error:
        add_metadata(new_writer(find_layout(config, "tiny")), config)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("family", "module"),
    [
        ("gemma4_text", "per_layer_model_projection"),
        ("gemma4_text", "embed_tokens_per_layer"),
        ("gemma3n_text", "altup_projections.0"),
        ("gemma3n_text", "modality_router"),
    ],
)
def test_an_adapter_that_llama_cpp_would_ignore_is_refused(
    family: str, module: str, tmp_path: Path
) -> None:
    """Merged, the same adapter is in the file."""
    tuned = models.with_adapter(models.make_model(family), target_modules=[module])
    with pytest.raises(NotAlone, match=module):
        write_adapter(tuned, tmp_path / "adapter.gguf", base_name="tiny")
    merged = write_model(tuned, tmp_path / "merged.gguf")
    assert distance(tuned, likeliest(merged)) < NOISY.get(family, 0.01)


def test_tokens_beyond_the_table_of_gemma_3n(tmp_path: Path) -> None:
    """Tokens that stand for pieces of images have the embeddings of token 0 for each layer."""
    model = models.with_adapter(models.make_model("gemma3n_text"), zero=True)
    assert model.get_base_model().config.vocab_size_per_layer_input == 258
    ids = [5, 262, 30, 259]
    path = write_model(model, tmp_path / "base.gguf")
    said = LlamaCpp(path, context=64, threads=1).likeliest(ids)
    with torch.no_grad():
        ours = model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    assert max(abs(float(ours[token]) - value) for token, value in said.items()) < 0.05


@pytest.mark.parametrize("quantize", ["f16", "q8_0"])
@pytest.mark.parametrize("family", QUANTISED)
def test_what_llama_cpp_needs_in_float32_stays(family: str, quantize: str, tmp_path: Path) -> None:
    tuned = models.with_adapter(models.make_model(family), family)
    said = likeliest(write_model(tuned, tmp_path / "model.gguf", quantize))
    assert distance_within(tuned, said, 0.3 if quantize == "f16" else 3.0)


def test_no_output_matrix_is_left_out(tmp_path: Path) -> None:
    """A file of Gemma 2 has embeddings alone; what the adapter does to them is not undone."""
    tuned = models.with_adapter(models.make_model("gemma2"), target_modules=["embed_tokens"])
    with pytest.raises(UserError, match=r"cannot hold lm_head\.weight"):
        write_model(tuned, tmp_path / "merged.gguf")


# --- models that read images ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gemma4", "qwen3_5", "smolvlm"])
def test_the_part_that_writes_text(kind: str, tmp_path: Path) -> None:
    base = find_base(str(save(kind, tmp_path / "base")))

    def part(**options: Any) -> Any:
        model = load_model(base, torch.float32)
        options.setdefault("target_modules", ["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"])
        return models.with_adapter(model, **options)

    tuned = part()
    notes = write_merged(
        tuned, models.make_tokenizer(), tmp_path / "merged.gguf",
        quantize="f32", base_name="tiny", base_file=None, name="tiny",
    )  # fmt: skip
    assert any("mmproj" in note for note in notes)
    assert distance(tuned, likeliest(tmp_path / "merged.gguf")) < 0.01
    file = write_model(part(zero=True), tmp_path / "base.gguf")
    write_adapter(tuned, tmp_path / "adapter.gguf", base_name="tiny")
    assert not distance_within(tuned, likeliest(file), 0.1)
    assert distance(tuned, likeliest(file, tmp_path / "adapter.gguf")) < 0.01


@pytest.mark.parametrize("kind", ["gemma4_text", "gemma4"])
def test_a_run_on_gemma_4(kind: str, prompts: Path, tmp_path: Path) -> None:
    """From its folder, whose layers have heads of different sizes, to answers by llama.cpp."""
    base = tmp_path / "base"
    models.save_base(base, kind) if kind in models.GEMMAS else save(kind, base)
    models.make_tokenizer().save_pretrained(base)
    lorita.train(
        model=str(base), data=str(prompts), text_field="prompt", learning_rate=1e-2, r=2,
        target_modules=["q_proj", "v_proj"], max_new_tokens=4, proof=False, use_cpu=True,
        dtype="float32", probe=False, max_steps=2, output_dir=tmp_path / "run",
    )  # fmt: skip
    made = export_gguf(tmp_path / "run", tmp_path / "merged.gguf", merged=True, quantize="f32")
    assert any("1 of 1 answers are the same" in line for line in made.checked), made.checked
    assert export_gguf(tmp_path / "run", tmp_path / "adapter.gguf").size < made.size


# --- tokenizers -----------------------------------------------------------------------------

TEXTS = (
    "the thing", " Größe\n\n12,5 €", "a  b\n\n\nc", "e\u0301 te\u0301th 12345, (x)!",
    "🦜 the\tend ",
)  # fmt: skip


def same_tokens(family: str, tokenizer: PreTrainedTokenizerFast, path: Path) -> None:
    write_with(tokenizer, family, path)
    server = LlamaCpp(path, context=64, threads=1)
    for text in TEXTS:
        assert server.tokenize(text) == tokenizer(text)["input_ids"], text


def test_tokens_of_gemma_4(tmp_path: Path) -> None:
    """Merges in their order, whole runs of line feeds, bytes for what has no token."""
    letters = sorted({*"".join(TEXTS).replace(" ", "▁")} - {"🦜"})
    words = ["<pad>", "<eos>", "<bos>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    merges = [("t", "h"), ("▁", "th"), ("h", "e"), ("th", "e"), ("\n", "\n"), ("1", "2")]
    vocab = {word: i for i, word in enumerate([*words, *("".join(pair) for pair in merges)])}
    inner = Tokenizer(token_models.BPE(vocab=vocab, merges=merges, byte_fallback=True))
    inner.normalizer = normalizers.Replace(" ", "▁")
    inner.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<eos>", bos_token="<bos>", pad_token="<pad>"
    )
    inner.post_processor = None
    with_start = _starts_with_bos(tokenizer)
    same_tokens("gemma4_text", with_start, tmp_path / "model.gguf")


def _starts_with_bos(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", tokenizer.bos_token_id)]
    )
    return tokenizer


@pytest.mark.parametrize("name", ["qwen35", "falcon"])
def test_tokens_of_other_splits(name: str, tmp_path: Path) -> None:
    tokenizer = models.make_tokenizer()
    (steps,) = (steps for steps, known in SPLITS.items() if known == name)
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=name == "falcon")
    if name == "falcon":
        parts = [
            pre_tokenizers.Punctuation("contiguous"),
            by_bytes,
            pre_tokenizers.Digits(individual_digits=False),
            pre_tokenizers.Split(Regex(steps[-1]), "isolated"),
        ]
    else:
        parts = [pre_tokenizers.Split(Regex(steps[0]), "isolated"), by_bytes]
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    same_tokens("llama", tokenizer, tmp_path / "model.gguf")
