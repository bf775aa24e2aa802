"""General passages, by which it is seen what a model forgot.

Written for this project: several subjects, English, Spanish and code. They are in
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
"""Of a passage: tokenizers that spell letter by letter would make them long."""


def general_passages() -> list[dict[str, str]]:
    """``subject``, ``language`` (en, es, code) and ``text`` of each."""
    path = files("lorita") / "resources" / "general_passages.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def general_examples(tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """The passages as rows. Their end is no target: how a text ends is what tuning teaches."""
    texts = [passage["text"] for passage in general_passages()]
    rows = [ids[:MOST_TOKENS] for ids in Encoder(tokenizer).starts(texts)]
    return [Example(ids, list(ids), number) for number, ids in enumerate(rows)]
