"""What a request says about single tokens: penalties, biases, a grammar; and their probabilities.

The rules are those of OpenAI's API. Probabilities are the model's own, before any rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TokenLogprob:
    """A token of an answer, its log-probability, and those of the likeliest ones beside it."""

    token: int
    logprob: float
    top: list[tuple[int, float]] = field(default_factory=list)


class Grammar(Protocol):
    """Says which tokens may come next; ``failed`` where it could not."""

    failed: bool

    def allow(self, logits_V: Tensor) -> Tensor:
        """The logits, those of other tokens minus infinity."""
        ...

    def chosen(self, token: int) -> None:
        """The token that came."""
        ...


@dataclass(frozen=True)
class Rules:
    """What a request says about the tokens of an answer; see ``TokenGuide``.

    ``grammar_of`` is the part of the request that asks for a grammar.
    """

    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    make_grammar: Callable[[], Grammar] | None = None
    grammar_of: str = "response_format"
    logprobs: int | None = None
    stops: frozenset[int] = frozenset()

    def guide(self) -> TokenGuide | None:
        """The guide of one answer; None where there is nothing to guide."""
        penalties = self.presence_penalty or self.frequency_penalty
        if not (penalties or self.logit_bias or self.make_grammar) and self.logprobs is None:
            return None
        return TokenGuide(
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=self.logit_bias,
            grammar=None if self.make_grammar is None else self.make_grammar(),
            logprobs=self.logprobs,
            stops=self.stops,
        )


class TokenGuide:
    """One text's guide; see ``lorita.engine.decoding.choose.Guide``.

    ``logprobs`` is how many of the likeliest tokens are kept beside each token (None: nothing is
    kept). ``stops`` end the text and are never kept.
    """

    def __init__(
        self,
        *,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        logit_bias: Mapping[int, float] | None = None,
        grammar: Grammar | None = None,
        logprobs: int | None = None,
        stops: frozenset[int] = frozenset(),
    ) -> None:
        self._presence, self._frequency = presence_penalty, frequency_penalty
        self._bias, self._grammar = dict(logit_bias or {}), grammar
        self._logprobs, self._stops = logprobs, stops
        self._counts: Counter[int] = Counter()
        self._found: list[TokenLogprob] = []
        self._own_V: Tensor | None = None

    def shape(self, logits_V: Tensor) -> Tensor:
        """The logits to choose from."""
        import torch

        if self._logprobs is not None:
            self._own_V = logits_V.float().log_softmax(-1)
        if self._counts and (self._presence or self._frequency):
            ids_S = torch.tensor(list(self._counts))
            counts_S = torch.tensor(list(self._counts.values()), dtype=logits_V.dtype)
            logits_V[ids_S] -= self._presence + self._frequency * counts_S
        for token, bias in self._bias.items():
            logits_V[token] += bias
        return logits_V if self._grammar is None else self._grammar.allow(logits_V)

    def chosen(self, token: int) -> None:
        """Count the token, and keep its probability."""
        self._counts[token] += 1
        if self._grammar is not None and token not in self._stops:
            self._grammar.chosen(token)
        if self._own_V is not None and self._logprobs is not None and token not in self._stops:
            top = self._own_V.topk(min(self._logprobs, len(self._own_V))) if self._logprobs else ()
            pairs = list(zip(top[1].tolist(), top[0].tolist(), strict=True)) if top else []
            self._found.append(TokenLogprob(token, float(self._own_V[token]), pairs))

    @property
    def failed(self) -> bool:
        """Whether the answer is not what its grammar asks for."""
        return self._grammar is not None and self._grammar.failed

    def take_found(self) -> list[TokenLogprob]:
        """The probabilities of the tokens since the last call."""
        found, self._found = self._found, []
        return found


class LlamaGuide(TokenGuide):
    """The pieces of one text, which llama.cpp gives as text: a number stands for each.

    ``decode`` turns numbers back into text, ``written`` counts tokens. ``bias`` is added to the
    logits of tokens. ``shows_controls``: control tokens are part of the text.
    """

    def __init__(self, bias: Mapping[int, float]) -> None:
        super().__init__()
        self.bias = dict(bias)
        self.shows_controls = False
        self.texts: list[str] = []
        self.written = 0
        self.error: Exception | None = None

    def add(self, text: str) -> int:
        """The number of a new piece. Numbers are negative: others are real tokens."""
        self.texts.append(text)
        return -len(self.texts)

    def decode(self, pieces: Sequence[int]) -> str:
        """The text of pieces."""
        if self.error is not None:
            raise self.error
        return "".join(self.texts[-number - 1] for number in pieces if number < 0)

    def take_found(self) -> list[TokenLogprob]:
        """Nothing: llama.cpp is not asked for probabilities."""
        return []
