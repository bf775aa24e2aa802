"""How a tokenizer splits text before merging, and llama.cpp's names for it."""

from __future__ import annotations

from typing import NamedTuple

_WORD_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASE = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_LETTERS = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
)
_MARKS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+"
_MARK_TAIL = r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_PATH_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
SPLITS = {
    ("words",): "gpt-2",
    ("digits", "words"): "smollm",
    (_CASE + r"|\p{N}{1,3}" + _WORD_TAIL,): "dbrx",
    (_CASE + r"|\p{N}" + _WORD_TAIL,): "qwen2",
    (" ?[^(\\s|[.,!?…。，、।۔،])]+",): "bloom",
    (_MARKS + r"|\p{N}" + _MARK_TAIL,): "qwen35",
    ("Punctuation", "words", "Digits", "[0-9][0-9][0-9]"): "falcon",
    ("|".join(_LETTERS) + r"|\p{N}" + _PATH_TAIL,): "tekken",
    ("|".join(part + _SUFFIX for part in _LETTERS) + r"|\p{N}{1,3}" + _PATH_TAIL,): "gpt-4o",
}
"""How text is split before merging, and the name for it that is written."""


class Split(NamedTuple):
    """The steps that split a text, and whether words of the vocabulary are taken whole then.

    ``adds_bos``: what llama.cpp does where the file does not say it.
    """

    steps: tuple[str, ...]
    whole: bool = False
    adds_bos: bool = False


_STEPS = {name: steps for steps, name in SPLITS.items()}
_LIKE_LLAMA3 = ("llama-bpe", "llama3", "llama-v3", "lfm2", "falcon3", "pixtral")
KNOWN = {
    **{name: Split(steps) for name, steps in _STEPS.items() if name != "falcon"},
    **dict.fromkeys(("olmo", "mpt", "phi-2", "mellum"), Split(_STEPS["gpt-2"])),
    **dict.fromkeys(("refact", "starcoder"), Split(_STEPS["smollm"])),
    **dict.fromkeys(("deepseek-r1-qwen", "stablelm2"), Split(_STEPS["qwen2"])),
    **dict.fromkeys(_LIKE_LLAMA3, Split(_STEPS["dbrx"], whole=True, adds_bos=True)),
    "smaug-bpe": Split(_STEPS["dbrx"]),
    "llama4": Split(_STEPS["gpt-4o"]),
    "tekken": Split(_STEPS["tekken"], whole=True, adds_bos=True),
}
"""What is read of each name in a file, as llama.cpp understands it; transformers reads Falcon's."""
