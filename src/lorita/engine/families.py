"""What is special about a model family, one record each.

Most families need no record: ``recognise.py`` finds their parts by structure, and settings that
mean the same everywhere are listed here by name. A record states where a family departs from that.
A new record needs a tiny model in ``tests/engine/families.py``, which every test of the fast step
then covers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ACTIVATIONS = {
    "SiLU": "silu",
    "SiLUActivation": "silu",
    "GELUTanh": "gelu_tanh",
    "PytorchGELUTanh": "gelu_tanh",
    "NewGELUActivation": "gelu_tanh",
    "FastGELUActivation": "gelu_tanh",
    "BloomGelu": "gelu_tanh",
}
"""Activations that have a kernel, by the name of their class."""

DROPOUTS = (
    "hidden_dropout", "attention_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "dropout",
    "residual_dropout", "embedding_dropout",
)  # fmt: skip
"""Config attributes that drop activations in training."""


def drops_attention(config: Any) -> bool:
    """Whether a model with this config drops attention weights in training."""
    settings = config.get_text_config().to_dict()
    rates = [v for n, v in settings.items() if "drop" in n and ("attn" in n or "attention" in n)]
    return any(isinstance(rate, float) and rate > 0 for rate in rates)


def one_query_head(attention: Any) -> int:
    """Query heads per key/value head where a single projection holds all three: one each."""
    return 1


def falcon_query_heads(attention: Any) -> int:
    """Falcon's three generations: one query head per key head, one key head for all, groups."""
    if getattr(attention, "new_decoder_architecture", False):
        return int(attention.num_heads // attention.num_kv_heads)
    return int(attention.num_heads) if getattr(attention, "multi_query", False) else 1


STRETCHING = ("dynamic", "longrope")
"""Kinds of rotary angles that depend on the length of a text."""


@dataclass(frozen=True)
class Family:
    """Where a family departs from the common build, LLaMA's; the defaults are the common build."""

    alibi: bool | str = False
    """Linear biases instead of rotary positions (Press et al., 2022): always, never, or if the
    config attribute of this name is true."""
    scales_alibi: bool = False
    """The biases are scaled like the scores, by ``1/sqrt(head size)``."""
    liger_casting: str = "llama"
    """Liger's name for where RMS norms round."""
    adds_residual: bool = False
    """Attention modules return their output plus the residual."""
    output_dropout: tuple[str, ...] = ("resid_dropout", "residual_dropout")
    """Attributes of attention modules with the dropout after the output projection; the first that
    exists is used."""
    query_heads: Callable[[Any], int] = one_query_head
    """Query heads per key/value head, from an attention module whose single projection holds the
    heads of each group together (queries, key, value)."""
    linear_class: str | None = None
    """A class of linear layers that compute what ``nn.Linear`` does."""

    def has_alibi(self, config: Any) -> bool:
        """Whether a model with this config has linear biases."""
        if isinstance(self.alibi, str):
            return bool(getattr(config, self.alibi, False))
        return self.alibi


COMMON = Family()
FAMILIES = {
    "bloom": Family(alibi=True, adds_residual=True, output_dropout=("hidden_dropout",)),
    "falcon": Family(
        alibi="alibi",
        scales_alibi=True,
        query_heads=falcon_query_heads,
        linear_class="FalconLinear",
    ),
    "gemma": Family(liger_casting="gemma"),
}
"""By ``model_type``, or by a part of it: families derived from a known one carry its name."""
LINEAR_CLASSES = {family.linear_class for family in FAMILIES.values()} - {None}


def family_of(config: Any) -> Family:
    """The record for a model's config; the common build if its ``model_type`` contains no key.

    Of several keys the longest counts: "gemma3_text" is "gemma", unless there is a "gemma3".
    """
    model_type = str(getattr(config.get_text_config(), "model_type", ""))
    keys = [key for key in FAMILIES if key in model_type]
    return FAMILIES[max(keys, key=len)] if keys else COMMON


def angles_stretch(lm: Any) -> bool:
    """Whether rotary angles depend on the length of a text, not on each token's place alone."""
    for module in lm.modules():
        kinds = getattr(module, "rope_type", None)
        named = kinds.values() if isinstance(kinds, dict) else (kinds,)
        if any(kind in STRETCHING for kind in named):
            return True
    return False
