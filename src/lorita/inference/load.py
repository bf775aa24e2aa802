"""Models opened with transformers: the base in memory, checked, with its adapter on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.errors import AdapterError, LoritaWarning, SettingsError
from lorita.inference.resolve import Resolved, resolve_adapter
from lorita.inference.tuned_model import TunedModel
from lorita.models.adapter import untouched
from lorita.models.adapter_embeddings import fit_embeddings, replaces_base
from lorita.models.adapter_files import require_files
from lorita.models.base import Base, find_base, load_tokenizer
from lorita.models.base_weights import check_tokenizer_fits, load_model
from lorita.models.fingerprint import fingerprint, fingerprint_problems
from lorita.models.load_adapter import load_adapter, load_adapters
from lorita.models.memory_needs import fitting_itemsize

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load(
    run: str | Path,
    *,
    base: str | None = None,
    dtype: str = "auto",
    adapters: Mapping[str, str | Path] | None = None,
    trust_remote_code: bool = False,
) -> TunedModel:
    """The tuned model of a run folder (or of any LoRA adapter), ready for inference.

    ``run`` is a run folder, an adapter's folder, a hub id or a GGUF adapter. ``base`` says where
    the base model is, if not where the run found it. ``dtype`` is ``float32``, ``bfloat16``,
    ``float16`` or ``auto`` (what suits this machine). ``trust_remote_code`` allows Python code that
    comes with the base model; what the adapter's files say about that is not obeyed.

    With ``adapters``, ``run`` is a base model instead, and each adapter is put on it under its
    name: ``load("smollm2-135m", adapters={"a": "runs/a", "b": "runs/b"})``.
    """
    if adapters is None:
        found = resolve_adapter(run, base, trust_remote_code=trust_remote_code)
        return open_model(found, dtype)
    if base is not None:
        raise SettingsError("with adapters, the first argument is the base")
    return _load_several(str(run), adapters, dtype, trust_remote_code)


def open_model(resolved: Resolved, dtype: str = "auto") -> TunedModel:
    """What was resolved, ready to answer; ``dtype`` as in ``load``.

    ``AdapterError`` where the adapter was trained on another base or does not fit.
    """
    model, tokenizer = load_checked_base(resolved, dtype)
    if resolved.folder is None:
        return TunedModel(model, tokenizer, resolved.base)
    biases = untouched(model)
    return TunedModel(
        load_adapter(model, resolved.folder).eval(),
        tokenizer,
        resolved.base,
        resolved.prompt_format(tokenizer),
        base_biases=biases,
        overwritten_by=resolved.folder if replaces_base(resolved.folder) else None,
    )


def load_checked_base(
    resolved: Resolved, dtype: str = "auto", *, beside: int = 0, fast: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The base without the adapter, and the tokenizer that the adapter was trained with.

    ``beside`` are bytes that will be needed beside the weights, ``fast`` whether the fast step will
    be used: where there is no room for all of it, nothing is loaded.

    ``AdapterError`` where the adapter's record says that it was trained on another base,
    ``ModelError`` where the tokenizer has tokens that the base does not know.
    """
    model = load_model(resolved.base, fitting_dtype(resolved.base, dtype, beside, fast))
    check_same_base(resolved, model)
    if resolved.folder is not None:
        require_files(resolved.folder)
        fit_embeddings(model, resolved.folder)
    tokenizer = resolved.tokenizer()
    check_tokenizer_fits(resolved.base, tokenizer, model)
    return model, tokenizer


def check_same_base(resolved: Resolved, model: torch.nn.Module) -> None:
    """``AdapterError`` if ``model`` is not the base that the adapter's record describes."""
    if resolved.record is None or not resolved.record.base.fingerprint:
        return
    problems = fingerprint_problems(resolved.record.base.fingerprint, fingerprint(model))
    if problems:
        name = resolved.base.name
        raise AdapterError(
            [f"{resolved.folder} was trained on another base than {name}: {p}" for p in problems],
            hint="Give the one that it was trained on (--base).",
        )


def _load_several(
    base: str, adapters: Mapping[str, str | Path], dtype: str, trust: bool
) -> TunedModel:
    if not adapters:
        raise SettingsError("adapters is empty: name at least one, {'name': 'runs/NAME'}")
    found = {
        name: resolve_adapter(adapter, base, trust_remote_code=trust)
        for name, adapter in adapters.items()
    }
    place = find_base(base, trust_remote_code=trust)
    tokenizer = load_tokenizer(place)
    formats = {}
    for name, resolved in found.items():
        own = resolved.tokenizer()
        if own.get_vocab() != tokenizer.get_vocab():
            raise AdapterError(f"{resolved.folder}: its tokenizer is not that of {base}")
        formats[name] = resolved.prompt_format(own)
    model = load_model(place, fitting_dtype(place, dtype))
    check_tokenizer_fits(place, tokenizer, model)
    for resolved in found.values():
        check_same_base(resolved, model)
    tuned = load_adapters(model, {name: r.adapter for name, r in found.items()}).eval()
    return TunedModel(tuned, tokenizer, place, adapters=formats)


def fitting_dtype(base: Base, name: str, beside: int = 0, fast: bool = False) -> torch.dtype:
    """As ``torch_dtype``; for ``auto``, bfloat16 where float32 does not fit in memory.

    A ``LoritaWarning`` says so. ``ModelError`` where nothing fits; see ``load_checked_base``.
    """
    import warnings

    import torch

    dtype = torch_dtype(name)
    size, why = fitting_itemsize(
        base, dtype.itemsize, may_change=name == "auto", beside=beside, fast=fast
    )
    if why is not None:
        warnings.warn(why, LoritaWarning, stacklevel=2)
    return dtype if size == dtype.itemsize else torch.bfloat16


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
