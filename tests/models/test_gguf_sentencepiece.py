"""SentencePiece tokenizers of GGUF files put spaces where llama.cpp puts them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers import models as token_models
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from lorita.errors import ModelError
from lorita.inference.llamacpp import LlamaCpp
from lorita.models.base import find_base, load_tokenizer
from tests.models.gguf_bases import with_metadata, write_with

CHAT = "<|user|>the thing<|end|>"
TEXTS = (
    "the thing", " the", "  two  spaces ", "line\n the\n\n", "12 the, (x)!", "🦜 the\tend",
    "<|user|>the thing<|end|>\n<|user|> the", "<|end|>", "a<|end|>b", "",
)  # fmt: skip
SPECIAL = ("<|user|>", "<|end|>")
KEY = "tokenizer.ggml.add_space_prefix"


def make_tokenizer(*, adds_space: bool) -> PreTrainedTokenizerFast:
    letters = sorted({*"".join(TEXTS).replace(" ", "▁")} - {"🦜"})
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    merges = [("t", "h"), ("▁", "th"), ("▁th", "e"), ("th", "e"), ("i", "n"), ("▁", "▁")]
    vocab = {word: i for i, word in enumerate([*words, *("".join(pair) for pair in merges)])}
    inner = Tokenizer(
        token_models.BPE(
            vocab=vocab, merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True
        )
    )
    first = [normalizers.Prepend("▁")] if adds_space else []
    inner.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", "▁")])
    joined = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    last = [decoders.Strip(content=" ", left=1)] if adds_space else []
    inner.decoder = decoders.Sequence([*joined, *last])
    added = ("<unk>", "<s>", "</s>", *SPECIAL)
    inner.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in added])
    inner.post_processor = TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", vocab["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def ids_of(tokenizer: Any) -> list[list[int]]:
    return [tokenizer(text)["input_ids"] for text in TEXTS]


@pytest.mark.parametrize("family", ["llama", "mistral", "phi3"])
@pytest.mark.parametrize("said", ["yes", "no", "nothing"])
def test_the_tokens_of_llama_cpp(family: str, said: str, tmp_path: Path) -> None:
    """Where a file says nothing, there is a space."""
    tokenizer = make_tokenizer(adds_space=said != "no")
    write_with(tokenizer, family, path := tmp_path / "model.gguf")
    if said == "nothing":
        path = with_metadata(path, {}, leave_out=[KEY])
    server = LlamaCpp(path, context=64, threads=1)
    found = load_tokenizer(find_base(str(path)))
    expected = ids_of(tokenizer)
    assert [server.tokenize(text) for text in TEXTS] == expected
    assert ids_of(found) == expected
    assert found.get_vocab() == tokenizer.get_vocab()
    for text, ids in zip(TEXTS, expected, strict=True):
        whole = found.decode(ids[1:], clean_up_tokenization_spaces=False)
        assert whole == tokenizer.decode(ids[1:], clean_up_tokenization_spaces=False)
        if said == "no":
            assert whole == text
    found.save_pretrained(tmp_path / "saved")
    assert ids_of(AutoTokenizer.from_pretrained(tmp_path / "saved")) == expected


def test_a_space_that_llama_cpp_adds_is_told(tmp_path: Path) -> None:
    """A tokenizer with a space before the text alone cannot be written as it is."""
    tokenizer = make_tokenizer(adds_space=False)
    inner = tokenizer.backend_tokenizer
    assert write_with(tokenizer, "llama", tmp_path / "never.gguf") == []
    inner.normalizer = None
    for scheme, count in (("never", 0), ("always", 0), ("first", 1)):
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
        told = write_with(tokenizer, "llama", path := tmp_path / f"{scheme}.gguf")
        assert len([note for note in told if "space after each special token" in note]) == count
        server = LlamaCpp(path, context=64, threads=1)
        same = [server.tokenize(text) == tokenizer(text)["input_ids"] for text in ("the", CHAT)]
        assert same == [True, count == 0]


@pytest.mark.parametrize("kind", ["rwkv", "no_vocab", "bert", 7])
def test_another_kind_of_tokenizer(kind: object, llama_file: Path) -> None:
    path = with_metadata(llama_file, {"tokenizer.ggml.model": kind})
    with pytest.raises(ModelError, match=r"the tokenizer cannot be loaded") as found:
        load_tokenizer(find_base(str(path)))
    assert "Use the model's folder in Hugging Face format" in str(found.value)


def test_no_end_of_text(llama_file: Path) -> None:
    path = with_metadata(llama_file, {}, leave_out=["tokenizer.ggml.eos_token_id"])
    with pytest.raises(ModelError, match=r"no end-of-text token(?s:.)*Use the model's folder"):
        load_tokenizer(find_base(str(path)))


@pytest.fixture
def llama_file(tmp_path: Path) -> Path:
    write_with(make_tokenizer(adds_space=True), "llama", path := tmp_path / "model.gguf")
    return path
