"""What an activated LoRA (aLoRA) waits for: a run of tokens, in the rows as they are tokenised."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from lorita.data.examples import IGNORE, Example
from lorita.engine.activated import invocation_start
from lorita.errors import DataError, SettingsError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lorita.data.tokens.prompt_format import PromptFormat

AUTO = "auto"
"""The head of the assistant's turn, which the chat template puts before each answer."""
_OPTION = "alora_invocation_tokens"
LOOKED_AT, LONGER = 20, 4
"""Rows that are searched for a text whose tokens are others there, and by how many more."""


@dataclass(frozen=True)
class Invocation:
    """The tokens, and the text that they stand for."""

    tokens: tuple[int, ...]
    text: str

    def line(self) -> str:
        """A sentence about it."""
        count = f"{len(self.tokens)} token" + ("s" if len(self.tokens) > 1 else "")
        return (
            f"Activated LoRA: the adapter acts from the last {self.text!r} in a row on ({count}); "
            "before it, the model is its base"
        )


def find_invocation(
    asked: str | Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    prompt_format: PromptFormat,
    examples: Sequence[Example],
) -> Invocation:
    """The invocation that was asked for: ``AUTO``, a text, or the tokens themselves.

    A text may have other tokens where it follows other text: then those of the first rows are
    taken. ``SettingsError`` where there is nothing to wait for.
    """
    if not isinstance(asked, str):
        if unknown := [token for token in asked if token >= len(tokenizer)]:
            raise SettingsError(f"{_OPTION}: the tokenizer has no token {unknown[0]}")
        return Invocation(tuple(asked), str(tokenizer.decode(list(asked))))
    text = _head_of_turn(prompt_format) if asked == AUTO else asked
    alone = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    if not alone:
        raise SettingsError(f"{_OPTION}: {text!r} has no tokens")
    rows = [example.input_ids for example in islice(examples, LOOKED_AT)]
    if any(invocation_start(row, alone) is not None for row in rows):
        return Invocation(alone, text)
    most = len(alone) + LONGER
    found = (_in_context(row, text, tokenizer, most) for row in rows)
    return Invocation(next((tokens for tokens in found if tokens), alone), text)


def _head_of_turn(prompt_format: PromptFormat) -> str:
    call = "" if prompt_format.template is None else prompt_format.template.call
    if not call.strip():
        why = (
            "these rows are put through no chat template"
            if prompt_format.template is None
            else "the chat template puts nothing before an answer"
        )
        raise SettingsError(
            f"{_OPTION} {AUTO} is the head of the assistant's turn, but {why}",
            hint=f'Give the text from which on the adapter acts: --{_OPTION.replace("_", "-")} "…"',
        )
    return call


def _in_context(
    ids: Sequence[int], text: str, tokenizer: PreTrainedTokenizerBase, most: int
) -> tuple[int, ...]:
    """The last tokens of a row that spell the text exactly; empty if there are none."""
    if text not in str(tokenizer.decode(list(ids))):
        return ()
    for start in range(len(ids) - 1, -1, -1):
        for end in range(start + 1, min(start + most, len(ids)) + 1):
            if tokenizer.decode(list(ids[start:end])) == text:
                return tuple(ids[start:end])
    return ()


def invocation_notes(invocation: Invocation, examples: Iterable[Example]) -> list[str]:
    """What rows the adapter cannot learn from; ``DataError`` if it can learn from none."""
    rows = without = targets = before = 0
    for example in examples:
        rows += 1
        targets += example.num_targets
        start = invocation_start(example.input_ids, invocation.tokens)
        without += start is None
        labels = example.labels[1:] if start is None else example.labels[1 : start + 1]
        before += len(labels) - labels.count(IGNORE)
    if before == targets:
        found = "no row holds" if without == rows else "no row trains anything after"
        raise DataError(
            f"{found} the invocation {invocation.text!r} of the activated LoRA, which is "
            f"{len(invocation.tokens)} tokens: it would learn nothing",
            hint="Give a text that is in every row before its answer, exactly as it is written "
            f"there; {AUTO} is the head of the assistant's turn. lorita preview shows the rows.",
        )
    said = []
    if without:
        said.append(
            f"{without} of {rows} rows do not hold the invocation {invocation.text!r}: the adapter "
            "does not act on them and learns nothing from them"
        )
    elif before:
        said.append(
            f"{before:,} of {targets:,} tokens to train on come before the last invocation of "
            "their row: there the base speaks, and the adapter learns nothing from them "
            "(--train-on completion leaves them out)"
        )
    return said
