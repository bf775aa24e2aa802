"""New tokens for a tokenizer, and the pieces in its own vocabulary that they were made of.

A token is added as it is written, once. What exists already is not added again, and that is said.
What the model needs for them is in ``models/new_rows.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lorita.errors import SettingsError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lorita.data.examples import Example

MOST = 50_000
"""New tokens; each needs rows in which it appears often."""
LONGEST = 1_000
"""Characters of a token. Longer ones are texts, and would be looked for in every row."""
SHOWN = 5
WORDS, SPECIAL = "add_tokens", "add_special_tokens"


@dataclass(frozen=True)
class NewTokens:
    """Tokens that were added to a tokenizer, in order of their ids.

    ``pieces`` has for each new id those that its text was before, and ``texts`` has its text.
    ``special`` are the texts of control tokens.
    """

    pieces: dict[int, list[int]] = field(default_factory=dict)
    texts: tuple[str, ...] = ()
    special: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def add_new_tokens(
    tokenizer: PreTrainedTokenizerBase, words: Sequence[str] | None, special: Sequence[str] | None
) -> NewTokens:
    """Add ``words`` and then the control tokens ``special`` to a tokenizer, which is changed.

    ``SettingsError`` for lists without a token, and for texts that can be no token.
    """
    if words is None and special is None:
        return NewTokens()
    problems: list[str] = []
    notes: list[str] = []
    wanted: dict[str, bool] = {}
    for name, given in ((WORDS, words), (SPECIAL, special)):
        if given is not None:
            wanted |= _wanted(name, given, wanted, problems, notes)
    if problems:
        raise SettingsError(problems, hint="A token is a text of at least one visible character.")
    pieces = {token: tokenizer.encode(token, add_special_tokens=False) for token in wanted}
    added = tokenizer.get_added_vocab()
    there = [t for t in wanted if t in added or _is_whole(tokenizer, t, pieces[t])]
    known = set(there)
    fresh = [token for token in wanted if token not in known]
    if there:
        notes.append(f"not added, for the tokenizer has {_them(there)} already: {_shown(there)}")
    if not fresh:
        return NewTokens(notes=tuple(notes))
    if lost := [token for token in fresh if not pieces[token]]:
        raise SettingsError(f"the tokenizer makes nothing of {_shown(lost)}: no token can be made")
    _add(tokenizer, fresh, wanted)
    ids = tokenizer.get_added_vocab()
    if wrong := [token for token in fresh if token not in ids]:
        raise SettingsError(f"this tokenizer does not take new tokens: {_shown(wrong)}")
    controls = sum(wanted[token] for token in fresh)
    kind = f", {controls} of them control tokens" if controls else ""
    notes.insert(0, f"{len(fresh):,} new token{'s' * (len(fresh) > 1)}{kind}: {_shown(fresh)}")
    fresh.sort(key=ids.__getitem__)
    return NewTokens(
        {ids[token]: list(pieces[token]) for token in fresh},
        tuple(fresh),
        frozenset(token for token in fresh if wanted[token]),
        tuple(notes),
    )


def _wanted(
    name: str,
    given: Sequence[str],
    before: Collection[str],
    problems: list[str],
    notes: list[str],
) -> dict[str, bool]:
    """The tokens of one list without white space around them, each once, and whether special."""
    stripped = [token.strip() for token in given]
    spaced = sum(a != b and bool(b) for a, b in zip(given, stripped, strict=True))
    tokens = [token for token in stripped if token]
    once = list(dict.fromkeys(tokens))
    if not once:
        problems.append(f"{name}: there are no tokens in it")
    if len(once) > MOST:
        problems.append(f"{name}: {len(once):,} tokens; at most {MOST:,} can be added")
    wrong = list(filter(None, map(_fault, once)))
    problems += [f"{name}: {fault}" for fault in wrong[:SHOWN]]
    if len(wrong) > SHOWN:
        problems.append(f"{name}: and {len(wrong) - SHOWN:,} more like these")
    if both := [token for token in once if token in before]:
        problems.append(f"{_shown(both)}: in {WORDS} and in {SPECIAL}; name it in one of them")
    if spaced:
        notes.append(f"{name}: white space around {spaced:,} tokens is no part of them")
    if len(once) < len(tokens):
        notes.append(f"{name}: {len(tokens) - len(once):,} are listed twice and added once")
    return dict.fromkeys(once, name == SPECIAL)


def _fault(token: str) -> str | None:
    """Why a text can be no token; None if it can."""
    if len(token) > LONGEST:
        return f"{token[:20]}… has {len(token):,} characters; a token has at most {LONGEST:,}"
    if not token.isprintable() or "\ufffd" in token:
        return f"{token!r} holds characters that cannot be seen"
    return None


def _is_whole(tokenizer: PreTrainedTokenizerBase, token: str, ids: Sequence[int]) -> bool:
    """Whether a text is one token of the vocabulary, which is not that for unknown texts."""
    return len(ids) == 1 and (ids[0] != tokenizer.unk_token_id or token == tokenizer.unk_token)


def _add(
    tokenizer: PreTrainedTokenizerBase, tokens: Iterable[str], special: dict[str, bool]
) -> None:
    """Add tokens that are found wherever a text spells them, whatever is around them."""
    from transformers import AddedToken

    made = [AddedToken(t, special=special[t], normalized=False) for t in tokens]
    tokenizer.add_tokens(made)


def unused_note(new: NewTokens, examples: Sequence[Example]) -> list[str]:
    """A line about new tokens that no row has: they stay as they start."""
    missing = set(new.pieces)
    for example in examples:
        if not missing:
            return []
        missing.difference_update(example.input_ids)
    if not missing:
        return []
    names = dict(zip(new.pieces, new.texts, strict=True))
    lost = [names[i] for i in sorted(missing)]
    verb = "appears" if len(lost) == 1 else "appear"
    return [
        f"{len(lost):,} of {len(new.pieces):,} new tokens {verb} in no training row, so nothing is "
        f"learned about {_them(lost)}: {_shown(lost)}"
    ]


def _them(tokens: Sequence[str]) -> str:
    return "it" if len(tokens) == 1 else "them"


def _shown(tokens: Sequence[str]) -> str:
    more = f" and {len(tokens) - SHOWN:,} more" if len(tokens) > SHOWN else ""
    return ", ".join(tokens[:SHOWN]) + more
