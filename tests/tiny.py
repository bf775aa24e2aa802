"""Models that are made in a moment: random weights, a few thousand parameters, every family."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    BloomConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.auto import AutoModelForCausalLM

from lorita.system.quiet import quiet_libraries

WORDS = ["act", "as", "a", "gardener", "cook", "tailor", "teacher", "my", "tea", "bread"]

CONFIGS = {
    "llama": lambda vocab: LlamaConfig(
        vocab_size=vocab,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        attention_bias=True,  # so that there are biases to train
    ),
    "bloom": lambda vocab: BloomConfig(
        vocab_size=vocab, hidden_size=32, n_layer=2, n_head=4, hidden_dropout=0.0
    ),
    "gpt2": lambda vocab: GPT2Config(
        vocab_size=vocab,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=128,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    ),
}
QKV = {"llama": ["q_proj", "v_proj"], "bloom": ["query_key_value"], "gpt2": ["c_attn"]}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes as tokens, and an end-of-text token: every text has a spelling."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<eos>": 0} | {letter: i + 1 for i, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")


def make_model(family: str, seed: int = 0) -> PreTrainedModel:
    """A model of the family with random weights, frozen and in evaluation mode."""
    torch.manual_seed(seed)
    config = CONFIGS[family](len(make_tokenizer()))
    config.bos_token_id = config.eos_token_id = config.pad_token_id = 0
    model = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        # Weights large enough for the model to have opinions, biases that are not zero.
        scale = 0.1 if name.endswith("bias") else 0.15
        if parameter.ndim >= 2 or name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=scale)
    return model.requires_grad_(False).eval()


def make_it_matter(model: PreTrainedModel) -> None:
    """Random weights, large enough that every part of the model changes its numbers."""
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            torch.nn.init.normal_(parameter, std=0.2)
        elif "bias" in name:
            torch.nn.init.normal_(parameter, std=0.1)
        else:  # norms: close to their initial values
            parameter.data += 0.1 * torch.randn_like(parameter)


def save_model(folder: Path, family: str = "llama") -> Path:
    """The model and its tokenizer as a folder in Hugging Face format."""
    with quiet_libraries(hide_bars=True):
        make_model(family).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def make_texts(count: int) -> list[str]:
    """Short texts of different lengths that are easy to learn."""
    texts = []
    for i in range(count):
        words = [WORDS[(i * 7 + j) % len(WORDS)] for j in range(3 + i % 5)]
        texts.append("I act as " + " ".join(words) + ".")
    return texts


def write_csv(path: Path, texts: list[str], column: str = "prompt") -> Path:
    import csv

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["act", column])
        writer.writerows([f"role {i}", text] for i, text in enumerate(texts))
    return path
