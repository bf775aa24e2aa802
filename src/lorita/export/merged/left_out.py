"""What a merged model takes from its base unread: the towers of a model that also reads images.

Only the language part was loaded and trained. The merged folder is the whole model again.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.export.merged.original_names import entries
from lorita.export.merged.safetensors_writer import Entry
from lorita.export.merged.weights import Weight
from lorita.models.language_part import left_out_names, load_towers
from lorita.system.quiet import quiet_libraries

if TYPE_CHECKING:
    import torch

    from lorita.inference.tuned_model import TunedModel
    from lorita.models.base import Base

PROCESSOR_FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "chat_template.json",
)
"""How images become inputs of the model; transformers reads them beside the tokenizer."""


def left_out_entries(tuned: TunedModel, dtype: torch.dtype) -> list[Entry]:
    """The tensors of the parts that were left out, as the base's files have them, in ``dtype``."""
    model = tuned.model.get_base_model()  # type: ignore[operator]
    with quiet_libraries():
        whole = load_towers(tuned.base, model.config, dtype)
    towers = set(left_out_names(model))
    weights = []
    for name, tensor in whole.state_dict().items():
        module, _, leaf = name.rpartition(".")
        if module in towers:
            place = (whole.get_submodule(module), leaf)
            weights.append(Weight(name, tuple(tensor.shape), False, place))
    return list(entries(whole, weights, dtype))


def copy_processor(base: Base, folder: Path) -> None:
    """Copy the base's own files of ``PROCESSOR_FILES``."""
    from transformers.utils import cached_file

    for name in PROCESSOR_FILES:
        found = cached_file(
            base.location,
            name,
            revision=base.revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if found is not None:
            shutil.copyfile(found, folder / name)
