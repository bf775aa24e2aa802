"""Which token comes next: the likeliest one, or one drawn at random, after a repetition penalty.

The rules and their order are those of transformers' ``generate``, and so are the numbers: a text
drawn with a seed is the one that ``generate`` draws for it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lorita.errors import ModelError


@dataclass(frozen=True)
class Choice:
    """How the tokens of a text are chosen; names as in transformers. ``top_k = 0`` is off."""

    repetition_penalty: float = 1.0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0


class Guide(Protocol):
    """Has a say in each token of one text, such as what a grammar allows, and is told it."""

    def shape(self, logits_V: Tensor) -> Tensor:
        """The logits to choose from, before any other rule; may overwrite what it is given."""
        ...

    def chosen(self, token: int) -> None:
        """The token that was chosen from them."""
        ...


class Chooser:
    """Chooses the tokens of one text, which begins with ``prompt``."""

    def __init__(self, prompt: Sequence[int], choice: Choice, guide: Guide | None = None) -> None:
        self.choice, self._guide = choice, guide
        self._seen = set(prompt)
        self._seen_S = torch.tensor(sorted(self._seen))
        self._generator = torch.Generator().manual_seed(choice.seed)

    @property
    def is_plain(self) -> bool:
        """Whether it is the likeliest token, whatever came before."""
        if self._guide is not None:
            return False
        return not self.choice.do_sample and self.choice.repetition_penalty == 1.0

    def choose(self, logits_V: Tensor) -> int:
        """The next token. May overwrite the logits."""
        if self._guide is not None:
            logits_V = self._guide.shape(logits_V)
        self._penalise(logits_V)
        token = self._draw(logits_V) if self.choice.do_sample else int(logits_V.argmax())
        if self.choice.repetition_penalty != 1.0 and token not in self._seen:
            self._seen.add(token)
            self._seen_S = torch.cat([self._seen_S, torch.tensor([token])])
        if self._guide is not None:
            self._guide.chosen(token)
        return token

    def _penalise(self, logits_V: Tensor) -> None:
        """Keskar et al., 2019 (arXiv:1909.05858)."""
        penalty = self.choice.repetition_penalty
        if penalty == 1.0:
            return
        score_S = logits_V[self._seen_S]
        logits_V[self._seen_S] = torch.where(score_S < 0, score_S * penalty, score_S / penalty)

    def _draw(self, logits_V: Tensor) -> int:
        choice, never = self.choice, float("-inf")
        if choice.temperature != 1.0:
            logits_V = logits_V / choice.temperature
        if choice.top_k:
            least = logits_V.topk(min(choice.top_k, len(logits_V))).values[-1]
            logits_V = logits_V.masked_fill(logits_V < least, never)
        if choice.top_p < 1.0:
            ordered, index = logits_V.sort()
            unlikely = ordered.softmax(-1).cumsum(-1) <= 1 - choice.top_p
            unlikely[-1] = False
            logits_V = logits_V.masked_fill(unlikely.scatter(0, index, unlikely), never)
        probs_1V = logits_V.softmax(-1)[None]
        return int(torch.multinomial(probs_1V, 1, generator=self._generator))


def choose(choosers: Sequence[Chooser], logits_nV: Tensor) -> list[int]:
    """The next token of each text. ``ModelError`` if logits are NaN or infinite."""
    with torch.inference_mode():
        top = logits_nV.max(-1)
        require_numbers(top.values)
        tokens: list[int] = top.indices.tolist()
        for number, chooser in enumerate(choosers):
            if not chooser.is_plain:
                tokens[number] = chooser.choose(logits_nV[number])
    return tokens


def require_numbers(largest_n: Tensor) -> None:
    """``ModelError`` if the largest logits of some texts are NaN or infinite.

    Then the likeliest token means nothing. NaN is the largest of all.
    """
    if not largest_n.isfinite().all():
        raise ModelError(
            "the model's answer is not numbers (NaN or infinity), so it has no likeliest token",
            hint="Its weights are damaged, or the number format is too narrow for it: try "
            "--dtype float32.",
        )
