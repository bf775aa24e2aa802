"""The GGUF files that llama.cpp needs to answer for a run, made once and cached.

A base that is itself a GGUF file is used as is, unless another dtype is requested. An adapter that
cannot be a GGUF file of its own (DoRA, biases, ...) is merged into the base.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lorita.errors import SettingsError
from lorita.export.gguf.adapter_file import NotAlone, require_representable
from lorita.export.gguf.file import write_run
from lorita.inference.checked_base import load_checked_base
from lorita.inference.resolve import Resolved
from lorita.inference.tuned_model import TunedModel
from lorita.models.adapter import attach, lora_config
from lorita.models.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from lorita.models.base import Base, own_dtype
from lorita.models.load_adapter import load_adapter
from lorita.storage.cache import kept_folder, mark_of

FORMATS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
VERSION = 2
"""Part of the cache key; raise it when the contents of the files change."""


def base_file(base: Base, dtype: str = "auto") -> Path:
    """The base as a GGUF file: its own, or one converted to ``dtype``.

    ``auto`` is the base's own file if it is one, else float32: with float16, xllamacpp's wheel was
    measured to be three times slower.
    """
    if base.gguf_path is not None and dtype == "auto":
        return base.gguf_path
    quantize = _format(dtype)

    return _kept(f"{_base_mark(base)}:{quantize}", lambda path: write_base(base, path, quantize))


def write_base(base: Base, path: Path, quantize: str) -> None:
    """Write the base to ``path`` in the number format ``quantize``."""
    model, tokenizer = load_checked_base(Resolved(base), _widest(base))
    # write_run writes merged models, so merge an adapter that changes nothing.
    idle = attach(model, lora_config(model, {"r": 1}), seed=0)
    tuned = TunedModel(idle, tokenizer, base)
    write_run(tuned, path.parent, path, merged=True, quantize=quantize, name=Path(base.name).name)


def adapter_file(resolved: Resolved) -> Path | None:
    """The adapter alone as a GGUF file; None if it cannot be a file of its own."""
    from peft import PeftConfig

    try:
        require_representable(PeftConfig.from_pretrained(resolved.adapter))
        return _run_file(resolved, "f32", merged=False)
    except NotAlone:
        return None


def merged_file(resolved: Resolved, dtype: str = "auto") -> Path:
    """Base and adapter as one GGUF file; ``dtype`` as in ``base_file``."""
    return _run_file(resolved, _format(dtype), merged=True)


def _run_file(resolved: Resolved, quantize: str, *, merged: bool) -> Path:
    folder, base = resolved.adapter, resolved.base

    def make(path: Path) -> None:
        model, tokenizer = load_checked_base(resolved, _widest(base))
        tuned = TunedModel(load_adapter(model, folder), tokenizer, base)
        write_run(tuned, folder, path, merged=merged, quantize=quantize, name=folder.name)

    what = f"merged {quantize}" if merged else "adapter"
    return _kept(f"{_base_mark(base)}:{_adapter_mark(folder)}:{what}", make)


def _widest(base: Base) -> str:
    """The dtype in which the base loses no precision: float32 for a quantised file."""
    return own_dtype(base, "float32")


def _kept(mark: str, make: Callable[[Path], None]) -> Path:
    folder = kept_folder("gguf", f"{mark}:{VERSION}", lambda part: make(part / "model.gguf"))
    return folder / "model.gguf"


def _format(dtype: str) -> str:
    if dtype == "auto":
        return "f32"
    if dtype not in FORMATS:
        raise SettingsError(f"dtype = {dtype!r}: should be auto, float32, bfloat16 or float16")
    return FORMATS[dtype]


def _base_mark(base: Base) -> str:
    folder = Path(base.location)
    if base.gguf_path is not None:
        return mark_of(base.gguf_path)
    if folder.is_dir():
        return mark_of(*sorted(p for p in folder.iterdir() if p.is_file()))
    return f"{base.location}@{base.revision}"


def _adapter_mark(folder: Path) -> str:
    return mark_of(folder / CONFIG_FILE, folder / WEIGHTS_FILE)
