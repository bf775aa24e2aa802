"""A base's tokenizer without transformers, for commands that only look at data.

transformers takes a second and a half to start, and then reads a tokenizer in many ways. What it
made of one is kept: the state of the ``tokenizers`` library, and the facts that it adds. From then
on the ids, texts and facts are the same without it. Only tokenizers are kept that do nothing else;
models, training and generation always use transformers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lorita.models.base import Base
from lorita.models.context import context_length
from lorita.storage.cache import find_kept, kept_folder, mark_of

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

FORM = 2
"""A new number keeps all tokenizers again."""
_STATE, _FACTS = "state.json", "facts.json"
_KEPT_FACTS = (
    "eos_token_id", "bos_token_id", "unk_token_id", "unk_token", "chat_template",
    "special_tokens_map", "all_special_tokens", "all_special_ids",
)  # fmt: skip
_SAME = ("__call__", "_encode_plus", "encode", "decode", "_decode", "added_tokens_decoder",
         "all_special_tokens", "special_tokens_map", "backend_tokenizer")  # fmt: skip
"""What a class must have as it is in transformers' general class, to be kept."""


class PlainTokenizer:
    """What the data layer asks of a fast tokenizer; the attributes are those of transformers."""

    is_fast = True

    def __init__(self, inner: Tokenizer, facts: dict[str, Any]) -> None:
        self.backend_tokenizer = inner
        self.eos_token_id: int | None = facts["eos_token_id"]
        self.bos_token_id: int | None = facts["bos_token_id"]
        self.unk_token_id: int | None = facts["unk_token_id"]
        self.unk_token: str | None = facts["unk_token"]
        self.chat_template: str | dict[str, str] | None = facts["chat_template"]
        self.special_tokens_map: dict[str, str] = facts["special_tokens_map"]
        self.all_special_tokens: list[str] = facts["all_special_tokens"]
        self.all_special_ids: list[int] = facts["all_special_ids"]

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """The tokens that were added to the vocabulary, by id."""
        return self.backend_tokenizer.get_added_tokens_decoder()

    def __call__(
        self,
        texts: str | list[str],
        *,
        add_special_tokens: bool = True,
        return_attention_mask: bool = False,
        return_offsets_mapping: bool = False,
    ) -> dict[str, Any]:
        """The ids of a text or of each text, and with it the offsets of its tokens in characters.

        There is no attention mask.
        """
        one = isinstance(texts, str)
        rows = self.backend_tokenizer.encode_batch(
            [texts] if isinstance(texts, str) else texts, add_special_tokens=add_special_tokens
        )
        found: dict[str, list[Any]] = {"input_ids": [row.ids for row in rows]}
        if return_offsets_mapping:
            found["offset_mapping"] = [row.offsets for row in rows]
        return {name: values[0] for name, values in found.items()} if one else found

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """The ids of a text."""
        ids: list[int] = self(text, add_special_tokens=add_special_tokens)["input_ids"]
        return ids

    def decode(self, ids: Sequence[int], *, clean_up_tokenization_spaces: bool) -> str:
        """The text of tokens, with all that are special; nothing is cleaned up."""
        if clean_up_tokenization_spaces:
            raise ValueError("a plain tokenizer cleans nothing up")
        return self.backend_tokenizer.decode(list(ids), skip_special_tokens=False)


@dataclass(frozen=True)
class Plain:
    """A base's tokenizer, and the longest input the base was made for (None if unlimited)."""

    tokenizer: PreTrainedTokenizerBase
    context: int | None


def find_plain(base: Base) -> Plain | None:
    """What was kept of this base; None if nothing was, or its files have changed since."""
    place = _place(base)
    folder = place and find_kept(*place)
    if folder is None:
        return None
    from tokenizers import Tokenizer

    with suppress(Exception):  # tokenizers raises a plain Exception: then it is made again
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        plain = PlainTokenizer(Tokenizer.from_file(str(folder / _STATE)), facts)
        return Plain(cast("PreTrainedTokenizerBase", plain), facts["context"])
    return None


def keep_plain(base: Base, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Keep the tokenizer as transformers made it, if it is of a kind that can be kept.

    It must not have been changed since: no tokens added.
    """
    place = _place(base)
    if place is None or not _is_plain(tokenizer):
        return
    facts = {name: getattr(tokenizer, name) for name in _KEPT_FACTS}
    written = json.dumps({**facts, "context": context_length(config)}, ensure_ascii=True)

    def write(folder: Path) -> None:
        (folder / _STATE).write_text(tokenizer.backend_tokenizer.to_str(), encoding="utf-8")
        (folder / _FACTS).write_text(written, encoding="ascii")

    with suppress(Exception):  # a state in Python cannot be written; a full disk keeps nothing
        kept_folder(*place, write)


def _is_plain(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether ids and texts are those of the ``tokenizers`` library and of nothing else."""
    from transformers import PreTrainedTokenizerFast

    kind = type(tokenizer)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        return False
    inner = tokenizer.backend_tokenizer
    same = all(getattr(kind, name) is getattr(PreTrainedTokenizerFast, name) for name in _SAME)
    return same and not inner.encode_special_tokens and not (inner.truncation or inner.padding)


def _place(base: Base) -> tuple[str, str] | None:
    """Name and mark for the cache; None for a base that runs code or whose files are not known."""
    if base.trust_remote_code:
        return None
    if base.gguf_path is not None:
        files = mark_of(base.gguf_path)
    elif base.is_hub:
        if base.revision is None:
            return None
        files = f"{base.location}@{base.revision}"
    else:
        folder = Path(base.location)
        paths = [*folder.glob("*"), *folder.glob("additional_chat_templates/*")]
        files = mark_of(*sorted(path for path in paths if path.is_file()))
    versions = [version(name) for name in ("lorita", "transformers", "tokenizers")]
    name = (base.gguf_path or Path(base.location)).stem.lstrip(".") or "base"
    return f"{name}-tokenizer", f"{files}:{FORM}:{versions}"
