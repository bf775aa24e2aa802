"""A tokenizer that is written to a GGUF file and read back gives the same tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from lorita.export.gguf.vocabulary import add_vocabulary
from lorita.models.gguf_files import open_mapped
from lorita.models.gguf_splits import KNOWN, SPLITS
from lorita.models.gguf_tokenizer import read_gguf_tokenizer
from tests.models.gguf_bases import finish

TEXTS = (
    "", " ", "   ", "a", "  two  spaces   three ", "tab\tand\t\ttabs", "line\nline\n\n\nend\n",
    "\r\nwindows\r\n \r\n", "1 12 123 1234 12345  67 8  9", "x1y22z333", "3.14, 1,000; $5/kg",
    "I'm he'll WE'VE don't o'clock", "Größe naïve cafe\u0301 Ångström", "हिन्दी ไทย 漢字 한국어",
    "😀👩\u200d👧 ½ ² Ⅷ ٣٤", "path/to/file //comment", "<|im_start|>user\nhi<|im_end|>",
    "<think> a </think>", "\u00a0\u2003odd\u200bspaces", "CamelCaseWords and UPPERlower",
    "(((])){}[]", "end of text<|end|>",
)  # fmt: skip
ROWS = 600


RULES = [(steps, name == "tekken") for steps, name in SPLITS.items() if name in KNOWN]
RULES += [(steps, True) for steps, name in SPLITS.items() if name == "dbrx"]


def make_tokenizer(steps: tuple[str, ...], whole: bool) -> PreTrainedTokenizerFast:
    """It merges more than its rule lets it, and there is a word that no merges make."""
    inner = Tokenizer(models.BPE(ignore_merges=whole))
    parts: list[Any] = []
    for step in steps:
        if step == "digits":
            parts.append(pre_tokenizers.Digits(individual_digits=True))
        elif step != "words":
            parts.append(pre_tokenizers.Split(Regex(step), behavior="isolated"))
    use_regex = steps[-1] == "words"
    parts.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex))
    longest = Regex(r" ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+")
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(longest, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>"], show_progress=False,
    )  # fmt: skip
    inner.train_from_iterator([t * 3 for t in TEXTS], trainer)
    inner.pre_tokenizer = pre_tokenizers.Sequence(parts)
    words = {word for t in TEXTS for word, _ in inner.pre_tokenizer.pre_tokenize_str(t)}
    state = json.loads(inner.to_str())
    merges = state["model"]["merges"]
    merges.pop(max(i for i, pair in enumerate(merges) if "".join(pair) in words))
    inner = Tokenizer.from_str(json.dumps(state))
    special = [AddedToken(t, special=True) for t in ("<s>", "<|im_start|>", "<|im_end|>")]
    inner.add_special_tokens(special)
    inner.add_tokens([AddedToken(t, normalized=False) for t in ("<think>", "</think>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|end|>", bos_token="<s>", chat_template="{{ 1 }}"
    )


def write(path: Path, tokenizer: PreTrainedTokenizerFast, pre: str | None = None) -> Path:
    writer = gguf.GGUFWriter(None, "granite")
    add_vocabulary(writer, tokenizer, ROWS)
    if pre is not None:
        writer.kv_data[0]["tokenizer.ggml.pre"].value = pre
    writer.add_tensor("token_embd.weight", np.zeros((ROWS, 32), np.float32))
    finish(writer, path)
    return path


def read(path: Path) -> Any:
    from transformers import GraniteConfig

    return read_gguf_tokenizer(open_mapped(path), GraniteConfig())


def ids_of(tokenizer: Any) -> list[list[int]]:
    return [tokenizer(text)["input_ids"] for text in TEXTS]


@pytest.mark.parametrize(("steps", "whole"), RULES, ids=[f"{SPLITS[s]}-{w}" for s, w in RULES])
def test_the_same_tokens(steps: tuple[str, ...], whole: bool, tmp_path: Path) -> None:
    tokenizer = make_tokenizer(steps, whole)
    found = read(write(tmp_path / "a.gguf", tokenizer))
    assert ids_of(found) == ids_of(tokenizer)
    assert found.get_vocab() == tokenizer.get_vocab()
    for text, ids in zip(TEXTS, ids_of(found), strict=True):
        assert found.decode(ids, clean_up_tokenization_spaces=False) == text
    assert found.special_tokens_map == tokenizer.special_tokens_map
    assert found.chat_template == tokenizer.chat_template
    assert {t.content: t.special for t in found.added_tokens_decoder.values()} == {
        t.content: t.special for t in tokenizer.added_tokens_decoder.values()
    }


def test_the_texts_tell_rules_apart() -> None:
    """Else the test before would prove little."""
    assert len({str(ids_of(make_tokenizer(*rule))) for rule in RULES}) == len(RULES)


SAME = {
    "gpt-2": ("olmo", "mpt", "phi-2", "mellum"),
    "smollm": ("refact", "starcoder"),
    "qwen2": ("deepseek-r1-qwen", "stablelm2"),
    "llama-bpe": ("llama3", "llama-v3", "lfm2", "falcon3", "pixtral"),
    "dbrx": ("smaug-bpe",),
    "gpt-4o": ("llama4",),
}
"""Names that llama.cpp gives to the rule of another, by that one's, as in its ``llama-vocab``."""


@pytest.mark.parametrize("name", SAME)
def test_names_of_one_rule(name: str, tmp_path: Path) -> None:
    tokenizer = make_tokenizer(("words",), False)
    expected = ids_of(read(write(tmp_path / "a.gguf", tokenizer, name)))
    for other in SAME[name]:
        assert ids_of(read(write(tmp_path / f"{other}.gguf", tokenizer, other))) == expected


def test_all_names_are_tested() -> None:
    written = {*SPLITS.values()} - {"falcon"}
    assert {*KNOWN} == {*written, *SAME, *(o for others in SAME.values() for o in others)}


@pytest.mark.parametrize(("bos", "eos"), [(True, False), (False, True), (True, True)])
def test_ends_of_a_text(bos: bool, eos: bool, tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer(("words",), False)
    single = [*(["<s>"] if bos else []), "$A", *(["<|end|>"] if eos else [])]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=single,
        special_tokens=[(t, tokenizer.convert_tokens_to_ids(t)) for t in ("<s>", "<|end|>")],
    )
    path = write(tmp_path / "a.gguf", tokenizer)
    found = read(path)
    assert ids_of(found) == ids_of(tokenizer)
    found.save_pretrained(tmp_path / "saved")
    from transformers import AutoTokenizer

    assert ids_of(AutoTokenizer.from_pretrained(tmp_path / "saved")) == ids_of(tokenizer)


@pytest.mark.parametrize("kind", ["olmo2", "qwen3_moe", "gpt_neox", "ministral3", "lfm2"])
def test_kept_beside_a_configuration(kind: str, tmp_path: Path) -> None:
    """What transformers makes of the saved files is the same, whichever class it takes."""
    from transformers import AutoConfig, AutoTokenizer

    steps = next(steps for steps, name in SPLITS.items() if name == "smollm")
    found = read(write(tmp_path / "a.gguf", make_tokenizer(steps, False)))
    AutoConfig.for_model(kind).save_pretrained(tmp_path / "saved")
    found.save_pretrained(tmp_path / "saved")
    assert ids_of(AutoTokenizer.from_pretrained(tmp_path / "saved")) == ids_of(found)
