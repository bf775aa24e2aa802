"""The tokenizer of a GGUF file: byte-level BPE by lorita, other kinds by transformers.

A file names the rule by which text is split before merging. transformers does not know all of them
and splits as GPT-2 does then, which gives other tokens without a word. A file does not say whether
text is normalised before; it is not, as in llama.cpp. Nor does transformers read whether a
SentencePiece tokenizer puts a space before a text, and it never puts one after a special token,
where llama.cpp does.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lorita.errors import ModelError
from lorita.models.gguf_families import FAMILIES
from lorita.models.gguf_metadata import OTHERWISE
from lorita.models.gguf_splits import KNOWN, SPLITS, Split

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from lorita.models.gguf_files import GgufFile
    from lorita.models.gguf_header import Header

_CONTROL, _USER_DEFINED, _UNUSED = 3, 4, 5
"""Kinds of tokens in gguf; those without a special treatment are normal."""
WITHOUT_SPACE = ("gemma", "gemma2", "gemma3")
"""What transformers builds for these never puts a space before a text."""
_WORDS = next(steps for steps, name in SPLITS.items() if name == "gpt-2")


def read_gguf_tokenizer(file: GgufFile, config: PretrainedConfig) -> PreTrainedTokenizerBase:
    """The tokenizer; ``ModelError`` if its way of splitting text is not known."""
    header = file.header
    name = header.get("tokenizer.ggml.pre")
    split = KNOWN.get(name) if isinstance(name, str) else None
    is_own = str(header.get("general.architecture")) in FAMILIES
    if header.get("tokenizer.ggml.model") == "llama":
        return _sentencepiece(file, config)
    if header.get("tokenizer.ggml.model") != "gpt2":
        return _by_transformers(file, config)
    if split is None and is_own:
        raise ModelError(
            f"{file.path}: the tokenizer splits text by a rule that lorita does not know "
            f"(tokenizer.ggml.pre is {name!r})",
            hint=OTHERWISE,
        )
    if split is None or not (is_own or split.whole or split.steps != _WORDS):
        return _by_transformers(file, config)
    return _own(file, split)


def _by_transformers(file: GgufFile, config: PretrainedConfig) -> PreTrainedTokenizerBase:
    """The tokenizer of the class that ``AutoTokenizer`` takes for this configuration."""
    from transformers import TOKENIZER_MAPPING, AutoTokenizer, PreTrainedTokenizerFast

    path = file.path
    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    if (path.parent / "tokenizer_config.json").exists():  # it may name another class
        return AutoTokenizer.from_pretrained(**where)  # type: ignore[no-any-return]
    kind: Any = PreTrainedTokenizerFast
    with suppress(KeyError):
        kind = TOKENIZER_MAPPING[type(config)] or kind
    if isinstance(kind, tuple):  # the slow and the fast one
        kind = kind[-1] or kind[0]
    return kind.from_pretrained(**where)  # type: ignore[no-any-return]


def _sentencepiece(file: GgufFile, config: PretrainedConfig) -> PreTrainedTokenizerBase:
    """transformers' vocabulary and merges, with spaces where llama.cpp puts them."""
    from tokenizers import decoders, normalizers

    made: Any = _by_transformers(file, config)
    inner, adds = made.backend_tokenizer, file.header.get("tokenizer.ggml.add_space_prefix", True)
    if file.header.get("general.architecture") in WITHOUT_SPACE and not adds:
        return made  # type: ignore[no-any-return]
    first = [normalizers.Prepend("▁")] if adds else []
    inner.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", "▁")])
    inner.pre_tokenizer = None
    last = [decoders.Strip(content=" ", left=1)] if adds else []
    joined = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    inner.decoder = decoders.Sequence([*joined, *last])
    return _wrapped(inner, file.header, adds_bos=True)


def _own(file: GgufFile, split: Split) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer of the vocabulary, the merges and the special tokens."""
    tokens: list[str] = file.header.get("tokenizer.ggml.tokens")
    return _wrapped(_backend(file, tokens, split), file.header, adds_bos=split.adds_bos)


def _wrapped(inner: Tokenizer, header: Header, *, adds_bos: bool) -> PreTrainedTokenizerBase:
    """With the special tokens that the file names, and its chat template.

    ``adds_bos``: what llama.cpp does where the file does not say it.
    """
    from transformers import PreTrainedTokenizerFast

    tokens: list[str] = header.get("tokenizer.ggml.tokens")
    special: dict[str, str] = {}
    for kind, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        number = header.get(f"tokenizer.ggml.{key}_token_id")
        if isinstance(number, int) and number < len(tokens):
            special[f"{kind}_token"] = tokens[number]
    _add_ends(inner, header, special, adds_bos=adds_bos)
    made: PreTrainedTokenizerBase = PreTrainedTokenizerFast(tokenizer_object=inner, **special)
    made.chat_template = _chat_templates(header)
    return made


def _backend(file: GgufFile, tokens: list[str], split: Split) -> Tokenizer:
    from tokenizers import AddedToken, Tokenizer, decoders, models

    header = file.header
    kinds = header.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    count = len(tokens)
    while count and kinds[count - 1] == _UNUSED:  # rows of the embedding beyond the vocabulary
        count -= 1
    vocabulary = {token: number for number, token in enumerate(tokens[:count])}
    merges = [tuple(merge.split(" ", 1)) for merge in header.get("tokenizer.ggml.merges")]
    inner = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, ignore_merges=split.whole)  # type: ignore[arg-type]
    )
    inner.pre_tokenizer = _pre_tokenizer(file, split)
    inner.decoder = decoders.ByteLevel()
    added = [(token, kind) for token, kind in zip(tokens, kinds, strict=False)]
    control = [token for token, kind in added if kind == _CONTROL]
    inner.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in control])
    known = [token for token, kind in added if kind == _USER_DEFINED]
    inner.add_tokens([AddedToken(t, normalized=False, special=False) for t in known])
    return inner


def _pre_tokenizer(file: GgufFile, split: Split) -> Any:
    from tokenizers import Regex, pre_tokenizers

    spaced = bool(file.header.get("tokenizer.ggml.add_space_prefix", False))
    if spaced and split.steps != _WORDS:
        raise ModelError(
            f"{file.path}: the tokenizer puts a space before a text (add_space_prefix), which is "
            "not supported for its way of splitting text",
            hint=OTHERWISE,
        )
    steps: list[Any] = []
    for step in split.steps:
        if step == "digits":
            steps.append(pre_tokenizers.Digits(individual_digits=True))
        elif step != "words":
            steps.append(pre_tokenizers.Split(Regex(step), behavior="isolated"))
    words = split.steps[-1] == "words"
    last = pre_tokenizers.ByteLevel(add_prefix_space=spaced, use_regex=words)
    return pre_tokenizers.Sequence([*steps, last]) if steps else last


def _add_ends(
    inner: Tokenizer, header: Header, special: Mapping[str, str], *, adds_bos: bool
) -> None:
    """Let the tokenizer put tokens before and after a text, if the file or llama.cpp does."""
    from tokenizers.processors import TemplateProcessing

    wanted = {
        "bos": header.get("tokenizer.ggml.add_bos_token", adds_bos),
        "eos": header.get("tokenizer.ggml.add_eos_token", False),
    }
    ends = {end: special.get(f"{end}_token") for end in wanted if wanted[end]}
    bos, eos = ends.get("bos"), ends.get("eos")
    single = [*([bos] if bos else []), "$A", *([eos] if eos else [])]
    inner.post_processor = TemplateProcessing(
        single=single,
        pair=[*single, "$B:1"],
        special_tokens=[(token, inner.token_to_id(token)) for token in (bos, eos) if token],
    )


def _chat_templates(header: Header) -> str | dict[str, str] | None:
    """The chat template, or all of them by their names."""
    plain = header.get("tokenizer.chat_template")
    names = header.get("tokenizer.chat_templates") or []
    named = {name: header.get(f"tokenizer.chat_template.{name}") for name in names}
    return {"default": plain, **named} if named else plain
