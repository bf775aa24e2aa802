"""Rows that repeat each other, exactly or nearly.

Near duplicates share most runs of three words: their Jaccard similarity is at least ``SIMILAR``.
Candidates come from MinHash and locality-sensitive hashing (Broder 1997; Indyk and Motwani 1998,
in the library ``rensa``) and are then compared exactly. Short rows that differ in one word or
number mean different things; they are duplicates only if they differ in nothing but case and space.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lorita.data.rows import Pair, Row, Text

MOST_CHARACTERS = 20_000_000
"""Characters of text that are compared; rows beyond them are not."""
SIMILAR = 0.8
SHORT = 12
"""Rows with fewer words are duplicates only if they are equal."""
# Two rows with a similarity of 0.8 are missed in one case out of 4,500: (1 - 0.8^4)^16.
_NUM_PERM, _BANDS, _SEED, _BATCH = 64, 16, 42, 1000
_CROWD = 100
"""Members of a group of near duplicates that are kept for comparing other rows with."""
# Scripts without spaces: every character is a word.
_WORD = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+")


@dataclass(frozen=True)
class Duplicates:
    """``groups[i]`` is the first row that row i duplicates, or i itself if there is none.

    ``exact`` are the rows that repeat an earlier one to the letter, ``near`` those that nearly do.
    Rows are counted from 0; ``compared`` is how many were compared.
    """

    groups: list[int]
    exact: list[int]
    near: list[int]
    compared: int

    def first_rows(self, count: int) -> Duplicates:
        """The same findings, restricted to the first ``count`` rows."""
        exact = [i for i in self.exact if i < count]
        near = [i for i in self.near if i < count]
        return Duplicates(self.groups[:count], exact, near, min(self.compared, count))


def find_duplicates(rows: Iterable[Row], *, most: int = MOST_CHARACTERS) -> Duplicates:
    """Compare the rows with each other, up to ``most`` characters of text in total.

    System messages are ignored, as they are often the same in every row.
    """
    texts, characters, count = [], 0, 0
    for row in rows:
        if characters < most:
            texts.append(said(row))
            characters += len(texts[-1])
        count += 1
    firsts: dict[str, int] = {}
    same = [firsts.setdefault(text, i) for i, text in enumerate(texts)]
    groups = _Groups(same)
    unique = list(firsts.values())
    folded: dict[str, int] = {}
    for i in unique:
        key = " ".join(texts[i].casefold().split())
        groups.join(folded.setdefault(key, i), i)
    _join_similar([i for i in folded.values() if texts[i].strip()], texts, groups)
    found = [groups.first(i) for i in range(len(texts))]
    exact = [i for i, first in enumerate(same) if first != i]
    near = [i for i in unique if found[i] != i]
    return Duplicates([*found, *range(len(texts), count)], exact, near, len(texts))


def said(row: Row) -> str:
    """The row as one text, without system messages."""
    if isinstance(row, Text):
        return row.text
    if isinstance(row, Pair):
        return f"{row.prompt}\n{row.completion}"
    return "\n".join(
        f"{m.content}\n{dict(m.extra)}" if m.extra else m.content
        for m in row.messages
        if m.role != "system"
    )


class _Groups:
    """Disjoint sets of row numbers; each is identified by its smallest."""

    def __init__(self, firsts: Sequence[int]) -> None:
        self._above = list(firsts)

    def first(self, i: int) -> int:
        while self._above[i] != i:
            self._above[i] = i = self._above[self._above[i]]
        return i

    def join(self, i: int, j: int) -> None:
        low, high = sorted((self.first(i), self.first(j)))
        self._above[high] = low


def _join_similar(numbers: Sequence[int], texts: Sequence[str], groups: _Groups) -> None:
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(SIMILAR, _NUM_PERM, _BANDS)
    sizes: dict[int, int] = {}
    for start in range(0, len(numbers), _BATCH):
        batch = numbers[start : start + _BATCH]
        # In batches: the runs of words take many times the memory of the text.
        shingles = {i: runs for i in batch if (runs := _shingles(texts[i]))}
        hashes = RMinHash.from_token_sets(list(shingles.values()), _NUM_PERM, _SEED)
        for i, digest in zip(shingles, hashes, strict=True):
            for other in sorted(index.query(digest)):
                apart = groups.first(i) != groups.first(other)
                if apart and _jaccard(texts[i], texts[other]) >= SIMILAR:
                    groups.join(i, other)
            first = groups.first(i)
            sizes[first] = sizes.get(first, 0) + 1
            if sizes[first] <= _CROWD:
                index.insert(i, digest)


def _shingles(text: str) -> list[str]:
    words = _WORD.findall(text.casefold())
    if len(words) < SHORT:
        return []
    return list(map(" ".join, zip(words, words[1:], words[2:], strict=False)))


def _jaccard(text: str, other: str) -> float:
    one, two = set(_shingles(text)), set(_shingles(other))
    return len(one & two) / len(one | two)
