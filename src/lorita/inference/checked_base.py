"""The base of an adapter in memory, in a number format that fits, checked to be the right one."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from lorita.errors import AdapterError, LoritaWarning, SettingsError
from lorita.inference.resolve import Resolved
from lorita.models.adapter_embeddings import fit_embeddings
from lorita.models.adapter_files import require_files
from lorita.models.adapter_kinds import read_adapter_config
from lorita.models.base import Base, load_tokenizer
from lorita.models.base_precision import IN_MEMORY, with_recorded_precision
from lorita.models.base_weights import check_tokenizer_fits, load_model
from lorita.models.fingerprint import fingerprint, fingerprint_problems
from lorita.models.fitting import fitting_form
from lorita.models.new_rows import brought_tokens, grow

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_checked_base(
    resolved: Resolved, dtype: str = "auto", *, beside: int = 0, fast: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The base without the adapter, and the tokenizer that the adapter was trained with.

    ``beside`` are bytes that will be needed beside the weights, ``fast`` whether the fast step will
    be used: where there is no room for all of it, nothing is loaded.

    ``AdapterError`` where the adapter's record says that it was trained on another base,
    ``ModelError`` where the tokenizer has tokens that the base does not know.
    """
    base = resolved.base
    if resolved.record is not None:  # the numbers on which the adapter was trained
        base = with_recorded_precision(base, resolved.record.base.precision)
    model = load_model(*fitting_base(base, dtype, beside, fast))
    check_same_base(resolved, model)
    if resolved.folder is not None:
        require_files(resolved.folder)
        grow(model, _brought(resolved))
        fit_embeddings(model, resolved.folder)
    tokenizer = resolved.tokenizer()
    check_tokenizer_fits(resolved.base, tokenizer, model)
    return model, tokenizer


def _brought(resolved: Resolved) -> dict[int, list[int]]:
    """The tokens that an adapter adds to its base, with the pieces that they start from."""
    config = read_adapter_config(resolved.adapter)
    if not config.get("trainable_token_indices"):
        return {}
    return brought_tokens(config, load_tokenizer(resolved.base), resolved.tokenizer())


def check_same_base(resolved: Resolved, model: torch.nn.Module) -> None:
    """``AdapterError`` if ``model`` is not the base that the adapter's record describes.

    A ``LoritaWarning`` if only its numbers are others, because they were quantised in training.
    """
    if resolved.record is None or not resolved.record.base.fingerprint:
        return
    from lorita.engine.kernels.products import quantised

    trained_on = resolved.record.base.precision
    if trained_on in IN_MEMORY and not any(map(quantised, model.parameters())):
        warnings.warn(
            f"{resolved.folder} was trained on weights that were quantised ({trained_on}); here "
            f"{resolved.base.name} has its own numbers",
            LoritaWarning,
            stacklevel=2,
        )
    problems = fingerprint_problems(resolved.record.base.fingerprint, fingerprint(model))
    if problems:
        name = resolved.base.name
        raise AdapterError(
            [f"{resolved.folder} was trained on another base than {name}: {p}" for p in problems],
            hint="Give the one that it was trained on (--base).",
        )


def fitting_base(
    base: Base, name: str, beside: int = 0, fast: bool = False
) -> tuple[Base, torch.dtype]:
    """The base in a form that fits in memory, and the dtype of its numbers.

    The dtype is as in ``torch_dtype``; for ``auto``, bfloat16 where float32 does not fit. Where
    that does not either, a quantised GGUF file stays quantised. A ``LoritaWarning`` says so.
    ``ModelError`` where nothing fits; see ``load_checked_base``.
    """
    import torch

    dtype = torch_dtype(name)
    form, size, why = fitting_form(
        base, dtype.itemsize, may_change=name == "auto", beside=beside, fast=fast
    )
    if why is not None:
        warnings.warn(why, LoritaWarning, stacklevel=2)
    return form, dtype if size == dtype.itemsize else torch.bfloat16


def torch_dtype(name: str) -> torch.dtype:
    """``auto`` is what suits this machine; the names are torch's."""
    import torch

    if name == "auto":
        from lorita.engine.numerics import choose_numerics

        return choose_numerics().dtype
    dtype = getattr(torch, name, None)
    if name not in ("float32", "bfloat16", "float16"):
        raise SettingsError(f"dtype = {name!r}: should be auto, float32, bfloat16 or float16")
    return dtype  # type: ignore[return-value]
