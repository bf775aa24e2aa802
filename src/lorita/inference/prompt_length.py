"""Which prompts fit a model that looks positions up in a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lorita.data.tokens.prompt_format import PromptFormat
from lorita.errors import SettingsError
from lorita.models.base import context_length

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


def positions_in_table(model: Any) -> int | None:
    """How many tokens a text may have where positions are looked up in a table (GPT-2, OPT).

    None for models that compute them: those go on beyond what they were made for.
    """
    import torch

    limit = context_length(model.config)
    if limit is None:
        return None
    words = model.get_input_embeddings()
    tables = (m for m in model.modules() if isinstance(m, torch.nn.Embedding) and m is not words)
    # OPT's table begins with two rows that stand for no position.
    return limit if any(limit <= table.num_embeddings <= limit + 2 for table in tables) else None


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    prompt_format: PromptFormat,
    places: int | None,
) -> list[int]:
    """A prompt's tokens. ``SettingsError`` for none, or for more than the positions there are."""
    ids = prompt_format.ids(tokenizer, prompt)
    shown = prompt if len(prompt) <= 40 else prompt[:40] + "…"
    if not ids:
        raise SettingsError(f"the prompt {shown!r} has no tokens to continue from")
    if places is not None and len(ids) >= places:
        raise SettingsError(
            f"the prompt {shown!r} has {len(ids):,} tokens; "
            f"this model has positions for {places:,}, the answer included"
        )
    return ids


def fits(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, prompt_format: PromptFormat
) -> Callable[[str], bool]:
    """Tells of a prompt whether ``model`` can answer it."""
    places = positions_in_table(model)

    def can_be_answered(prompt: str) -> bool:
        try:
            prompt_ids(tokenizer, prompt, prompt_format, places)
        except SettingsError:
            return False
        return True

    return can_be_answered


def require_stretchable(config: PretrainedConfig, max_length: int, context: int) -> None:
    """Models with a table of positions cannot go beyond it; rotary and linear ones can, badly."""
    if config.model_type in ("gpt2", "gpt_bigcode", "gpt_neo", "opt", "xglm"):
        raise SettingsError(
            f"max_length = {max_length}: {config.model_type} has positions for {context} tokens",
            hint=f"Set --max-length {context} or less.",
        )
