"""The weights of a base model: read from any of its forms, checked, and frozen."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lorita.errors import LoritaWarning, ModelError
from lorita.models.base import NATIVE, Base, load_config, require_loadable
from lorita.models.fingerprint import require_finite_weights
from lorita.models.gguf_completed import warn_of_unread
from lorita.models.gguf_files import open_mapped
from lorita.models.gguf_tensors import read_blocks, read_tensor
from lorita.models.gguf_weights import load_weights
from lorita.models.language_part import loading_class
from lorita.models.pickled_weights import refuse_pickle, warn_if_pickled
from lorita.models.quantise import quantise
from lorita.storage.downloads import check_download
from lorita.storage.reading import one_message, said
from lorita.system.memory import is_out_of_memory
from lorita.system.quiet import quiet_libraries

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


def load_model(base: Base, dtype: torch.dtype) -> PreTrainedModel:
    """The model in ``dtype`` on the CPU, frozen and in evaluation mode.

    Its weights are in the form that ``base.precision`` says.

    Raises ``ModelError`` if the weights cannot be loaded, if some are missing from the files, or if
    some are not numbers. Whether there is memory for them is asked before (``memory_needs``).
    """
    config = load_config(base)
    warn_of_unread(base.name, config)
    require_loadable(base)
    with (
        one_message(f"{base.name}: the weights cannot be loaded", ModelError),
        _what_cannot_be_read_said(base.name),
        quiet_libraries(hide_bars=base.gguf_file is not None),
    ):
        model, missing, unused = _read_weights(base, config, dtype)
        if base.is_hub:
            check_download(base.location, base.revision)
    if missing:
        raise ModelError(
            f"{base.name}: {len(missing)} weights are missing from its files, such as {missing[0]}",
            hint="The folder may hold a different kind of model, or a download was interrupted.",
        )
    if unused:
        warnings.warn(
            f"{base.name}: {len(unused)} tensors of the file have no place in this model and are "
            f"not used, such as {unused[0]}",
            LoritaWarning,
            stacklevel=2,
        )
    if base.gguf_path is None:
        warn_if_pickled(base.name, base.location, base.revision)
    require_finite_weights(base.name, model)
    model.name_or_path = base.reference  # PEFT writes it into adapter_config.json
    model.requires_grad_(False)
    if base.precision is not None and base.gguf_path is None:
        quantise(model, base.precision)
    return model.eval()


@contextmanager
def _what_cannot_be_read_said(name: str) -> Iterator[None]:
    """``ModelError`` for pickles that hold more than tensors, and where memory ends."""
    try:
        yield
    except Exception as error:
        refuse_pickle(name, error)
        if is_out_of_memory(error):
            raise ModelError(
                f"{name}: its weights do not fit in memory ({said(error)})",
                hint="Allow more memory, or use a smaller model.",
            ) from error
        raise


def _read_weights(
    base: Base, config: PretrainedConfig, dtype: torch.dtype
) -> tuple[PreTrainedModel, list[str], list[str]]:
    """The model, the weights missing from its files, and what a GGUF file has beside them."""
    if base.gguf_path is not None:
        file = open_mapped(base.gguf_path)
        if base.precision == NATIVE:  # the file stays open: its pages are the weights
            keep = file.reader(read_blocks)
            return load_weights(file, file.reader(read_tensor), config, dtype, keep)
        with file.data:
            return load_weights(file, file.reader(read_tensor), config, dtype)
    from transformers import AutoModelForCausalLM

    # Else transformers asks a service to convert hub models that are pickles.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    source = base.source()
    if (loads := loading_class(config)) is not AutoModelForCausalLM:
        source.pop("trust_remote_code", None)
    model, report = loads.from_pretrained(
        **source, dtype=dtype, output_loading_info=True, weights_only=True
    )
    return model, sorted(report["missing_keys"]), []


def check_tokenizer_fits(
    base: Base, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
) -> None:
    """Raise ``ModelError`` if the tokenizer has ids for which the model has no embedding."""
    highest = max(tokenizer.get_vocab().values())
    rows = model.get_input_embeddings().weight.shape[0]
    if highest >= rows:
        raise ModelError(
            f"{base.name}: the tokenizer has ids up to {highest}, the model only {rows} embeddings",
            hint="The tokenizer may belong to another model, or the embeddings were not resized.",
        )
