"""Whether a prompt fits a model whose positions are looked up in a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lorita.errors import SettingsError
from lorita.models.context import context_length

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from lorita.data.tokens.prompt_format import PromptFormat


def positions_in_table(model: Any) -> int | None:
    """The longest text, in tokens, of a model that looks positions up in a table (GPT-2, OPT).

    None for models that compute positions: these can continue beyond their context, if badly.
    """
    import torch

    limit = context_length(model.config)
    if limit is None:
        return None
    words = model.get_input_embeddings()
    tables = (m for m in model.modules() if isinstance(m, torch.nn.Embedding) and m is not words)
    # The first two rows of OPT's table are not positions.
    return limit if any(limit <= table.num_embeddings <= limit + 2 for table in tables) else None


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    prompt_format: PromptFormat,
    places: int | None,
) -> list[int]:
    """The tokens of a prompt, which leave room for at least one more in ``places`` positions.

    Raises ``SettingsError`` if there are too many, or none. ``places`` None means no limit.
    """
    ids = prompt_format.ids(tokenizer, prompt)
    shown = prompt if len(prompt) <= 40 else prompt[:40] + "…"
    if not ids:
        raise SettingsError(f"the prompt {shown!r} has no tokens to continue from")
    if places is not None and len(ids) >= places:
        raise SettingsError(
            f"the prompt {shown!r} has {len(ids):,} tokens; "
            f"this model has {places:,} positions for prompt and answer together"
        )
    return ids


def fits(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, prompt_format: PromptFormat
) -> Callable[[str], bool]:
    """A function that says whether ``model`` can answer a prompt."""
    places = positions_in_table(model)

    def can_be_answered(prompt: str) -> bool:
        try:
            prompt_ids(tokenizer, prompt, prompt_format, places)
        except SettingsError:
            return False
        return True

    return can_be_answered


def require_stretchable(config: PretrainedConfig, max_length: int, context: int) -> None:
    """Raise ``SettingsError`` if rows of ``max_length`` tokens cannot exceed the model's context.

    Models with a table of positions end there. Rotary and linear (ALiBi) positions can go beyond.
    """
    if config.model_type in ("gpt2", "gpt_bigcode", "gpt_neo", "opt", "xglm"):
        raise SettingsError(
            f"max_length = {max_length}: {config.model_type} only has positions for {context} "
            "tokens",
            hint=f"Set --max-length {context} or less.",
        )
