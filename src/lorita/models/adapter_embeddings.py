"""Adapters that bring embeddings of their own, often with rows for tokens that were added.

PEFT loads them into a base that has been resized to the same number of rows; that is done here.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.errors import AdapterError, LoritaWarning
from lorita.models.adapter_files import WEIGHTS_FILE

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_INPUT = r"(embed_tokens|wte|word_embeddings|embed_in|embeddings|tok_embeddings|embedding)"
_OUTPUT = r"(lm_head|embed_out|output|head)"
MOST_ADDED = 100_000
"""Tokens that an adapter may add to its base; those that do add a few."""
_INNER = r"(\.(base_layer|token_adapter|original_module|modules_to_save))*"
"""PEFT's modules around an embedding."""


def saved_rows(folder: Path) -> int | None:
    """The rows of the embedding matrix in the adapter's file; None if it has none in full."""
    sizes = dict(_whole(folder, _INPUT))
    return next(iter(sizes.values()), None)


def tokens_needed(folder: Path) -> int | None:
    """The rows that an adapter needs which trains tokens one by one; None if it does not."""
    from lorita.models.adapter_kinds import read_adapter_config

    listed = read_adapter_config(folder).get("trainable_token_indices") or []
    ids = listed if isinstance(listed, list) else [i for some in listed.values() for i in some]
    return max(ids) + 1 if ids else None


def replaces_base(folder: Path) -> bool:
    """Whether loading the adapter overwrites weights of the base, so that it cannot be put aside.

    PEFT saves the embeddings of a resized model under their names in the base.
    """
    trained = _modules_to_save(folder)
    for layer in (_INPUT, _OUTPUT):
        for name, _ in _whole(folder, layer):
            parts = set(name.split("."))
            if parts & {"base_layer", "original_module"} or not parts & trained:
                return True
    return False


def fit_embeddings(model: PreTrainedModel, folder: Path) -> None:
    """Resize the embeddings of ``model`` to the rows that the adapter was trained with.

    New rows start as the mean of the old ones; the adapter's own replace them. A ``LoritaWarning``
    says so if it brings none for the output.
    """
    rows = _rows(folder)
    before = model.get_input_embeddings().weight.shape[0]
    if rows is None and (needed := tokens_needed(folder)) is not None:
        rows = max(before, needed)
    if rows is None or rows == before:
        return
    if rows > max(4 * before, before + MOST_ADDED):
        raise AdapterError(
            f"{folder / WEIGHTS_FILE}: brings embeddings for {rows:,} tokens, but the base has "
            f"{before:,}: the adapter belongs to another model"
        )
    model.resize_token_embeddings(rows, mean_resizing=False)
    model.requires_grad_(False)
    embeddings: list[torch.nn.Module | None] = [
        model.get_input_embeddings(),
        model.get_output_embeddings(),
    ]
    for module in embeddings:
        if module is not None and rows > before:
            weight = module.weight.data
            weight[before:] = weight[:before].mean(0)  # type: ignore[operator, index, union-attr]
    tied = bool(model.config.get_text_config().tie_word_embeddings)
    if rows > before and not tied and not _brings_output(folder):
        warnings.warn(
            f"{folder}: brings embeddings for {rows - before} added tokens, but not their rows of "
            "the output head: the model will not write these tokens as it did in training",
            LoritaWarning,
            stacklevel=2,
        )


def _brings_output(folder: Path) -> bool:
    """Whether the adapter has weights for tokens in the output layer."""
    single = (re.search(rf"\.{_OUTPUT}\.token_adapter\.", name) for name, _ in _shapes(folder))
    return bool(dict(_whole(folder, _OUTPUT))) or any(single)


def _rows(folder: Path) -> int | None:
    """The vocabulary's size in the adapter: of whole embeddings, or of LoRA matrices on them."""
    whole = saved_rows(folder) or next(iter(dict(_whole(folder, _OUTPUT)).values()), None)
    if whole is not None:
        return whole
    for name, shape in _shapes(folder):
        if name.endswith("lora_embedding_A") and len(shape) == 2:
            return shape[1]
        if re.search(rf"\.{_OUTPUT}\.lora_B(\.weight)?$", name):
            return shape[0]
    return None


def _whole(folder: Path, layer: str) -> Iterator[tuple[str, int]]:
    """Name and rows of the embedding matrices that the adapter's file holds in full."""
    for name, shape in _shapes(folder):
        if re.search(rf"(^|\.){layer}{_INNER}\.weight$", name) and len(shape) == 2:
            yield name, shape[0]


def _shapes(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """Name and shape of the tensors outside numbered layers, where embeddings never are."""
    from safetensors import safe_open

    path = folder / WEIGHTS_FILE
    if not path.is_file():
        return
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (not a mapping)
            if not re.search(r"\.\d+\.", name):
                yield name, file.get_slice(name).get_shape()


def _modules_to_save(folder: Path) -> set[str]:
    from lorita.models.adapter_kinds import read_adapter_config

    listed = read_adapter_config(folder).get("modules_to_save") or []
    return {name.rpartition(".")[2] for name in listed}
