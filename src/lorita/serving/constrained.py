"""Answers that are JSON of a given schema: llguidance says which tokens may come next."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from lorita.serving.api_errors import ApiError, invalid

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

_OPTIONS = {"whitespace_flexible": False}
"""Otherwise a small model may write white space to the end."""
_AS_TEMPLATES = {"item_separator": ", ", "key_separator": ": "}
"""Calls are written as chat templates write them (``tojson``)."""
_known: WeakKeyDictionary[Any, dict[tuple[int, tuple[int, ...]], Any]] = WeakKeyDictionary()


class JsonGrammar:
    """The state of one answer. ``failed``: nothing was allowed, so the answer had to end."""

    def __init__(self, tokenizer: Any, grammar: str, stops: Collection[int]) -> None:
        from llguidance import LLMatcher

        self._matcher, self._stops = LLMatcher(tokenizer, grammar, log_level=0), list(stops)
        self.failed = False

    def allow(self, logits_V: Tensor) -> Tensor:
        """The logits, those of tokens that must not come now minus infinity."""
        import torch

        bits = torch.frombuffer(bytearray(self._matcher.compute_bitmask()), dtype=torch.uint8)
        places = torch.arange(8, dtype=torch.uint8)
        allowed_V = ((bits[:, None] >> places) & 1).bool().flatten()[: len(logits_V)]
        if self._matcher.is_error() or not allowed_V.any():
            self.failed = True  # an error would end the answers beside this one, too
            allowed_V[self._stops] = True
        never = float("-inf")
        logits_V[: len(allowed_V)] = logits_V[: len(allowed_V)].masked_fill(~allowed_V, never)
        logits_V[len(allowed_V) :] = never
        return logits_V

    def chosen(self, token: int) -> None:
        """Go on to what may come behind the token."""
        self._matcher.consume_token(token)


def json_grammar(
    tokenizer: PreTrainedTokenizerBase,
    words: int,
    stops: Sequence[int],
    schema: Any,
    *,
    param: str = "response_format",
) -> tuple[Any, str]:
    """llguidance's tokenizer and the grammar of a schema, for ``JsonGrammar``.

    ``words`` is the size of the model's output, ``stops`` what may end the answer, ``param`` the
    part of the request that asks for it. ``ApiError`` if llguidance is not installed, or the schema
    is not one that can be followed.
    """
    try:
        from llguidance import LLMatcher
        from llguidance.hf import from_tokenizer
    except ImportError:
        raise ApiError(
            501,
            f"{param} needs llguidance on the server: pip install llguidance",
            code="not_installed",
            param=param,
        ) from None
    known = _known.setdefault(tokenizer, {})
    key = (words, tuple(sorted(stops)))
    if key not in known:
        if not tokenizer.is_fast:
            raise invalid(f"{param}: this model's tokenizer has no fast form, which constrained "
                          "answers need", param)  # fmt: skip
        known[key] = from_tokenizer(tokenizer, n_vocab=words, eos_token=sorted(stops))  # type: ignore[arg-type]
    try:
        options = {**_OPTIONS, **(_AS_TEMPLATES if param == "tool_choice" else {})}
        grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), defaults=options)  # type: ignore[arg-type]
        wrong = LLMatcher.validate_grammar(grammar, known[key])
    except ValueError as error:
        wrong = str(error)
    if wrong and not wrong.startswith("WARNING"):
        said = wrong.strip().partition("\n")[0][:300]
        raise invalid(f"{param}: the schema cannot be followed: {said}", param)
    return known[key], grammar
