"""General passages: their loss shows what a model has forgotten.

They were written for this project, on various subjects, in English, Spanish and code. They are in
``resources/general_passages.jsonl``; do not train on them.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING

from lorita.data.examples import Example
from lorita.data.tokens.encoder import Encoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_TOKENS = 96
"""Tokens of a passage that are used: a tokenizer that spells words out would make it long."""


def general_passages() -> list[dict[str, str]]:
    """The passages, each with its ``subject``, ``language`` (en, es or code) and ``text``."""
    path = files("lorita") / "resources" / "general_passages.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def general_examples(tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """The passages as rows without an end-of-text token: how texts end is what tuning teaches."""
    texts = [passage["text"] for passage in general_passages()]
    rows = [ids[:MOST_TOKENS] for ids in Encoder(tokenizer).starts(texts)]
    return [Example(ids, list(ids), number) for number, ids in enumerate(rows)]
