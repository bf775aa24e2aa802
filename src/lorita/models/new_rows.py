"""Rows of a model's embeddings for tokens that were added to its tokenizer.

A new token starts as the mean of the pieces that its text was before (Hewitt, 2021, takes the mean
of all tokens): the model then reads it much as it read the pieces. Only these rows are trained, by
PEFT's ``trainable_token_indices``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lorita.errors import AdapterError, ModelError
from lorita.system.quiet import quiet_libraries

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def grow(model: PreTrainedModel, pieces: Mapping[int, Sequence[int]]) -> None:
    """Give ``model`` a row for each new id, in input and output embeddings, at its start.

    Where the embeddings have more rows than the tokenizer has tokens, those are used. Tied
    embeddings stay tied. ``ModelError`` if the embeddings cannot be resized.
    """
    if not pieces:
        return
    rows = max(pieces) + 1
    if rows > model.get_input_embeddings().weight.shape[0]:
        try:
            with quiet_libraries():
                model.resize_token_embeddings(rows, mean_resizing=False)
        except (NotImplementedError, AttributeError, ValueError, RuntimeError) as error:
            said = str(error).strip().partition("\n")[0]
            raise ModelError(f"this model's embeddings cannot get more rows: {said}") from error
        model.requires_grad_(False)
    if model.get_input_embeddings().weight.is_meta:
        return
    seen: set[int] = set()
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        for tensor in _by_token(module):
            if tensor.data_ptr() not in seen:
                seen.add(tensor.data_ptr())
                _start(tensor, pieces)


def _by_token(module: Any) -> list[torch.Tensor]:
    """The tensors of an embedding or output layer that have a row for each token."""
    if module is None:
        return []
    bias = getattr(module, "bias", None)
    return [module.weight.data, *([bias.data] if bias is not None else [])]


def _start(tensor: torch.Tensor, pieces: Mapping[int, Sequence[int]]) -> None:
    for row, made_of in pieces.items():
        tensor[row] = tensor[list(made_of)].float().mean(0).to(tensor.dtype)


def trained_rows(model: PreTrainedModel, ids: Sequence[int]) -> dict[str, list[int]]:
    """``trainable_token_indices`` for these ids: rows of the input and of the output embeddings.

    Where the two are one matrix, PEFT trains it for both. ``AdapterError`` where PEFT cannot train
    single rows of this model.
    """
    names = {module: name for name, module in model.named_modules()}
    head = model.get_output_embeddings()
    layers = [module for module in (model.get_input_embeddings(), head) if module is not None]
    tied = head is not None and head.weight is layers[0].weight
    if head is None or tied:
        return {names[layers[0]].rpartition(".")[2]: sorted(ids)}
    if getattr(head, "bias", None) is not None:
        raise AdapterError(
            "add_tokens: PEFT cannot train single rows of an output layer with a bias, which this "
            "model has",
            hint="Choose another base model.",
        )
    return {names[layer].rpartition(".")[2]: sorted(ids) for layer in layers}


def require_free(model: PreTrainedModel, config: LoraConfig) -> None:
    """``AdapterError`` if the adapter is on the embeddings, too, or trains them in full."""
    from peft.tuners.tuners_utils import check_target_module_exists

    names = {module: name for name, module in model.named_modules()}
    problems = []
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        name = names.get(module, "")
        if name and check_target_module_exists(config, name):
            problems.append(f"target_modules: {name} cannot be combined with add_tokens")
        if any(f".{name}".endswith(f".{whole}") for whole in config.modules_to_save or []):
            problems.append(f"modules_to_save: {name} cannot be combined with add_tokens")
    if problems:
        raise AdapterError(
            problems, hint="add_tokens trains the rows of the new tokens by itself: leave it out."
        )


def brought_tokens(
    config: Mapping[str, Any], own: PreTrainedTokenizerBase, tokenizer: PreTrainedTokenizerBase
) -> dict[int, list[int]]:
    """The tokens that an adapter adds to its base, with their pieces; as ``grow`` takes them.

    ``config`` is the adapter's, ``own`` the base's tokenizer, ``tokenizer`` the adapter's.
    """
    listed = config.get("trainable_token_indices") or []
    ids = listed if isinstance(listed, list) else [i for some in listed.values() for i in some]
    known = set(own.get_vocab().values())
    texts = {i: tokenizer.convert_ids_to_tokens(i) for i in sorted({*ids} - known)}
    made = {
        i: own.encode(text, add_special_tokens=False)
        for i, text in texts.items()
        if isinstance(text, str)
    }
    return {i: pieces for i, pieces in made.items() if pieces}
