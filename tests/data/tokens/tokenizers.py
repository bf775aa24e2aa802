"""Small tokenizers that behave like those of the two large families.

``bytes`` is like GPT-2's and Llama 3's: bytes and merges, a space belongs to the word after it, and
offsets exclude white space. ``spaces`` is like Llama 2's: a space is put before every text, and
before the text after a special token.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "What is the capital of France? The capital of France is Paris.",
    "user assistant system model instruction response ### : . ? \n\n\n \n",
    "Hello there! How are you today?\nI am well, thank you.\n\nAnd you?",
] * 20


@cache
def make(
    family: str = "bytes",
    special: Sequence[str] = (),
    *,
    bos: str | None = None,
    eos: str = "</s>",
    adds_bos: bool = False,
) -> PreTrainedTokenizerFast:
    """A tokenizer whose special tokens are ``bos``, ``eos`` and ``special``."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=family == "spaces"))
    names = [name for name in dict.fromkeys([eos, bos, *special]) if name]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if family == "bytes":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=names, initial_alphabet=sorted(alphabet)
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
        spelled = [f"<0x{number:02X}>" for number in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=[*names, *spelled])
    tokenizer.train_from_iterator(CORPUS, trainer)
    # Byte fallbacks are ordinary tokens, but the trainer can only add them as special ones.
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in names]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names])
    before = f"{bos}:0 " if bos and adds_bos else ""
    if before:
        known = [(bos, tokenizer.token_to_id(bos))]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{before}$A:0", pair=f"{before}$A:0 $B:1", special_tokens=known
        )
    elif family == "bytes":
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=eos, bos_token=bos)
