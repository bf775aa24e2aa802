"""How far answers are, told as they are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Advance = Callable[[float], None]
"""Told how many more answers are done, parts of one included."""


class AnswerProgress:
    """Tells ``advance`` the parts of answers that are done; an answer may end early."""

    def __init__(self, advance: Advance | None) -> None:
        self._advance = advance
        self._told: dict[int, float] = {}

    def at(self, answer: int, share: float) -> None:
        """``share`` of this answer is done; less than before if it had to begin again."""
        more = share - self._told.get(answer, 0.0)
        self._told[answer] = share
        if self._advance is not None and more:
            self._advance(more)

    def processor(
        self, batch: Sequence[int], most_tokens: int
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """A processor of logits that changes nothing and counts the tokens of these answers."""
        tokens = 0

        def step(ids_BL: Tensor, scores_BV: Tensor) -> Tensor:
            nonlocal tokens
            tokens += 1
            for answer in batch:
                self.at(answer, min(1.0, tokens / most_tokens))
            return scores_BV

        return step
