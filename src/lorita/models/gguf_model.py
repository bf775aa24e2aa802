"""A model made of tensors that were read from a GGUF file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

    from lorita.models.gguf_files import GgufFile, StoredTensor

ReadTensor = Callable[["StoredTensor", "torch.dtype", "torch.Tensor | None"], "torch.Tensor"]
"""(tensor of a file, dtype, order of its rows or None) → the tensor."""
DERIVED = ("rope_freqs", "rope_factors_long", "rope_factors_short")
"""Tensors that repeat what the configuration says, if it says it."""


class Loaded(NamedTuple):
    """A model, its weights that the file lacks, and the file's tensors that it has no use for."""

    model: PreTrainedModel
    missing: list[str]
    unused: list[str]


def model_shell(config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """The model's modules without memory for their weights; what is computed is there."""
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    with init_empty_weights(include_buffers=False):
        return AutoModelForCausalLM.from_config(config, dtype=dtype)  # type: ignore[no-any-return]


def filled_model(
    shell: PreTrainedModel, state: dict[str, torch.Tensor], unused: list[str]
) -> Loaded:
    """The model with these tensors as its weights, which are not copied."""
    shell.load_state_dict(state, strict=False, assign=True)
    shell.tie_weights()
    missing = [name for name, weight in shell.state_dict().items() if weight.is_meta]
    return Loaded(shell, sorted(missing), unused)


def unused_in(file: GgufFile, taken: set[str]) -> list[str]:
    """The tensors of the file that were not taken."""
    left = sorted(name for name in file.tensors if name not in taken)
    return [name for name in left if not name.startswith(DERIVED)]
