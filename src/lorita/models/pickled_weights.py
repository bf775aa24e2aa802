"""Weights in torch's old files (``pytorch_model.bin``), which are pickles.

A pickle can run code when it is read. Only tensors are read from these (torch's ``weights_only``,
which knows no other types); what holds anything else is refused. Everything else that may be a
pickle (adapters, optimizers, data) is not read at all.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from lorita.errors import LoritaWarning, ModelError
from lorita.storage import hub

PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
"""Weights as torch saved them before safetensors, in one file or in several."""
SAFE = ("model.safetensors", "model.safetensors.index.json")


def refuse_pickle(name: str, error: Exception) -> None:
    """``ModelError`` if what failed is a pickle that holds something else than tensors."""
    if "eights only load failed" in str(error) or "weights_only" in str(error):
        raise ModelError(
            f"{name}: its .bin files hold something other than tensors, which could run code; they "
            "are not loaded",
            hint="Use a copy of the model whose weights are in .safetensors files.",
        ) from error


def warn_if_pickled(name: str, location: str, revision: str | None) -> None:
    """A ``LoritaWarning`` where a model's weights are read from a pickle.

    ``location`` is its folder or its hub id, at ``revision``.
    """

    def is_there(file: str) -> bool:
        folder = Path(location)
        if folder.is_dir():
            return (folder / file).is_file()
        return hub.in_cache(location, revision, file)

    found = next((file for file in PICKLED if is_there(file)), None)
    if found is None or any(is_there(file) for file in SAFE):
        return
    warnings.warn(
        f"{name}: its weights are in {found.removesuffix('.index.json')}, a pickle; only tensors "
        "are read from it, and no code in it is run",
        LoritaWarning,
        stacklevel=3,
    )
