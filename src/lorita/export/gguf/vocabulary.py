"""A tokenizer as GGUF metadata: tokens, merges, special tokens, chat template.

It is read from the JSON that the ``tokenizers`` library writes, so that all tokenizer classes are
treated alike. llama.cpp splits text by rules that it knows by name. A tokenizer with other rules is
refused, because llama.cpp would produce other tokens.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lorita.errors import UserError
from lorita.models.gguf_splits import SPLITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gguf import GGUFWriter
    from transformers import PreTrainedTokenizerBase

_ALONE = "Export the adapter alone, and use it with an existing GGUF file of the base."


def add_vocabulary(
    writer: GGUFWriter,
    tokenizer: PreTrainedTokenizerBase,
    rows: int,
    stop_tokens: Sequence[str] = (),
    *,
    family: str = "",
) -> list[str]:
    """Write the tokenizer of a model with ``rows`` embeddings, for llama.cpp's ``family``.

    Returns notes for the user: where llama.cpp will split a text otherwise.

    ``stop_tokens`` ended the answers in training; the first one that is not the end-of-text token
    becomes the end-of-turn token. Raises ``UserError`` for a tokenizer that cannot be written.
    """
    parts = _parts(tokenizer)
    if parts["model"]["type"] != "BPE":
        raise UserError(
            f"cannot write a {parts['model']['type']} tokenizer to a GGUF file (only BPE)",
            hint=_ALONE,
        )
    if parts["model"].get("byte_fallback") and family == "gemma4":
        _add_gemma4(writer, parts, rows)
    elif parts["model"].get("byte_fallback"):
        _add_sentencepiece(writer, parts, rows)
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_split_name(parts))
        tokens, types = _tokens(parts, rows)
        writer.add_token_list(tokens)
        writer.add_token_types(types)
        writer.add_token_merges([" ".join(pair) for pair in _merges(parts)])
        writer.add_add_space_prefix(_adds_space(parts))
    _add_special(writer, tokenizer, stop_tokens)
    return [SPACES] if parts["model"].get("byte_fallback") and _adds_one_space(parts) else []


SPACES = (
    "llama.cpp puts a space after each special token, where this tokenizer puts one before the "
    "whole text only: in chats, answers can differ"
)


def _parts(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError(f"{type(tokenizer).__name__} has no tokenizer.json to read from")
    parts: dict[str, Any] = json.loads(backend.to_str())
    return parts


def _flat(step: dict[str, Any] | None, key: str) -> list[dict[str, Any]]:
    """The steps of a normalizer or pre-tokenizer, with a sequence unfolded."""
    if step is None:
        return []
    return list(step[key]) if step["type"] == "Sequence" else [step]


def _split_name(parts: dict[str, Any]) -> str:
    """llama.cpp's name for the tokenizer's way of splitting text."""
    found = []
    for step in _flat(parts["pre_tokenizer"], "pretokenizers"):
        if step["type"] == "Split":
            found.append(next(iter(step["pattern"].values())))
        elif step["type"] == "Digits" and step["individual_digits"]:
            found.append("digits")
        elif step["type"] == "ByteLevel":
            found += ["words"] if step.get("use_regex", True) else []
        else:
            found.append(step["type"])
    name = SPLITS.get(tuple(found))
    if name is None:
        raise UserError(
            "llama.cpp has no rule that splits text as this tokenizer does "
            f"({' then '.join(found)})",
            hint=_ALONE,
        )
    if name == "dbrx" and parts["model"].get("ignore_merges"):
        return "llama-bpe"  # the same split, but whole words are looked up before merging
    return name


def _adds_space(parts: dict[str, Any]) -> bool:
    """Whether the tokenizer puts a space before the text."""
    for step in _flat(parts["normalizer"], "normalizers"):
        if step["type"] == "Prepend":
            return True
    for step in _flat(parts["pre_tokenizer"], "pretokenizers"):
        if step["type"] == "Metaspace":
            return bool(step.get("prepend_scheme", "always") != "never")
        if step["type"] == "ByteLevel":
            return bool(step["add_prefix_space"])
    return False


def _adds_one_space(parts: dict[str, Any]) -> bool:
    """Whether that space comes before the whole text, but not after a special token in it."""
    steps = _flat(parts["pre_tokenizer"], "pretokenizers")
    return any(s["type"] == "Metaspace" and s.get("prepend_scheme") == "first" for s in steps)


def _merges(parts: dict[str, Any]) -> list[list[str]]:
    return [m.split(" ") if isinstance(m, str) else m for m in parts["model"]["merges"]]


def _tokens(parts: dict[str, Any], rows: int) -> tuple[list[str], list[int]]:
    """Every token and its kind, by id; ids without a token get a name and are marked unused."""
    import gguf

    kinds = gguf.TokenType
    tokens = [f"[PAD{i}]" for i in range(rows)]
    types = [int(kinds.UNUSED)] * rows
    for token, i in parts["model"]["vocab"].items():
        tokens[i], types[i] = token, int(kinds.NORMAL)
    for added in parts["added_tokens"]:
        i = added["id"]
        tokens[i] = added["content"]
        types[i] = int(kinds.CONTROL if added["special"] else kinds.USER_DEFINED)
    return tokens, types


def _add_sentencepiece(writer: GGUFWriter, parts: dict[str, Any], rows: int) -> None:
    """Write tokens with scores, like SentencePiece: the earlier the merge, the higher the score."""
    import gguf

    kinds = gguf.TokenType
    tokens, types = _tokens(parts, rows)
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(_merges(parts)):
        ranks.setdefault(left + right, rank)
    last = float(len(ranks))
    scores = [-float(ranks.get(token, last)) for token in tokens]
    for i, token in enumerate(tokens):
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            types[i] = int(kinds.BYTE)
        elif token == parts["model"].get("unk_token"):
            types[i] = int(kinds.UNKNOWN)
        elif types[i] == kinds.USER_DEFINED:
            tokens[i] = token.replace("▁", " ")
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_add_space_prefix(_adds_space(parts))


SHOWN = (
    "<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>",
    "<tool_response|>", '<|"|>',
)  # fmt: skip
"""Special tokens of Gemma 4 that stay in the text, so that llama.cpp finds thoughts and calls."""


def _add_gemma4(writer: GGUFWriter, parts: dict[str, Any], rows: int) -> None:
    """Write Gemma 4's tokens: llama.cpp merges them by the merges themselves, not by scores."""
    import gguf

    tokens, types = _tokens(parts, rows)
    for i, token in enumerate(tokens):
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            types[i] = int(gguf.TokenType.BYTE)
        elif types[i] == gguf.TokenType.CONTROL and token in SHOWN:
            types[i] = int(gguf.TokenType.USER_DEFINED)
    writer.add_tokenizer_model("gemma4")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * rows)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in _merges(parts)])
    writer.add_add_space_prefix(False)


def _add_special(
    writer: GGUFWriter, tokenizer: PreTrainedTokenizerBase, stop_tokens: Sequence[str]
) -> None:
    for kind in ("bos", "eos", "unk", "pad"):
        token = getattr(tokenizer, f"{kind}_token_id", None)
        if token is not None:
            getattr(writer, f"add_{kind}_token_id")(token)
    turns = [token for token in stop_tokens if token != tokenizer.eos_token]
    if turns:
        writer.add_eot_token_id(tokenizer.convert_tokens_to_ids(turns[0]))
    ids = tokenizer("a")["input_ids"]
    writer.add_add_bos_token(bool(ids) and ids[0] == tokenizer.bos_token_id)
    writer.add_add_eos_token(len(ids) > 1 and ids[-1] == tokenizer.eos_token_id)
    templates = tokenizer.chat_template
    if isinstance(templates, dict):
        writer.add_chat_template([{"name": n, "template": t} for n, t in templates.items()])
    elif templates:
        writer.add_chat_template(templates)
