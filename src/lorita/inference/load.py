"""Models opened with transformers: the base in memory, checked, with its adapter on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.errors import AdapterError, SettingsError
from lorita.inference.checked_base import (
    check_same_base,
    fitting_base,
    load_checked_base,
)
from lorita.inference.resolve import Resolved, resolve, resolve_adapter
from lorita.inference.tuned_model import TunedModel
from lorita.models.adapter import untouched
from lorita.models.adapter_embeddings import replaces_base
from lorita.models.base import find_base, load_tokenizer
from lorita.models.base_weights import check_tokenizer_fits, load_model
from lorita.models.load_adapter import load_adapter, load_adapters

if TYPE_CHECKING:
    pass


def load(
    run: str | Path,
    *,
    base: str | None = None,
    dtype: str = "auto",
    adapters: Mapping[str, str | Path] | None = None,
    trust_remote_code: bool = False,
) -> TunedModel:
    """The tuned model of a run folder (or of any LoRA adapter), ready for inference.

    ``run`` is a run folder, an adapter's folder, a hub id or a GGUF adapter; a base model is taken
    as it is, to ask it before it is tuned. ``base`` says where
    the base model is, if not where the run found it. ``dtype`` is ``float32``, ``bfloat16``,
    ``float16`` or ``auto`` (what suits this machine). ``trust_remote_code`` allows Python code that
    comes with the base model; what the adapter's files say about that is not obeyed.

    With ``adapters``, ``run`` is a base model instead, and each adapter is put on it under its
    name: ``load("smollm2-135m", adapters={"a": "runs/a", "b": "runs/b"})``.
    """
    if adapters is None:
        found = resolve(run, base, trust_remote_code=trust_remote_code)
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
    model = load_model(*fitting_base(place, dtype))
    check_tokenizer_fits(place, tokenizer, model)
    for resolved in found.values():
        check_same_base(resolved, model)
    tuned = load_adapters(model, {name: r.adapter for name, r in found.items()}).eval()
    return TunedModel(tuned, tokenizer, place, adapters=formats)
