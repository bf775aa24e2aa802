"""GGUF files of tiny models, written by export, with tensors added or left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from transformers import PreTrainedTokenizerBase

from lorita.export.gguf.file import copy_metadata, new_writer, write_merged
from lorita.models.gguf_files import open_whole
from lorita.models.gguf_layout import find_layout
from tests.export import models


def write_gguf(
    folder: Path,
    family: str,
    *,
    quantize: str = "f32",
    extra: dict[str, np.ndarray] | None = None,
    leave_out: str | None = None,
) -> Path:
    idle = models.with_adapter(models.make_model(family), family, zero=True)
    path = folder / "whole.gguf"
    write_merged(
        idle, models.make_tokenizer(), path,
        quantize=quantize, base_name="tiny", base_file=None, name="tiny",
    )  # fmt: skip
    if not extra and leave_out is None:
        return path
    reader = gguf.GGUFReader(path)
    changed = folder / "changed.gguf"
    writer = new_writer(find_layout(idle.get_base_model().config, "tiny"))
    copy_metadata(open_whole(path).header, writer, leave_out=())
    for tensor in reader.tensors:
        if tensor.name != leave_out:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    for name, array in (extra or {}).items():
        writer.add_tensor(name, array)
    finish(writer, changed)
    return changed


def write_with(tokenizer: PreTrainedTokenizerBase, family: str, path: Path) -> list[str]:
    """A tiny model with this tokenizer, as a file; the notes on it."""
    model = models.make_model(family)
    model.resize_token_embeddings(len(tokenizer))
    return write_merged(
        models.with_adapter(model, family, zero=True), tokenizer, path,
        quantize="f32", base_name="tiny", base_file=None, name="tiny",
    )  # fmt: skip


def with_metadata(path: Path, changed: Mapping[str, Any], leave_out: Sequence[str] = ()) -> Path:
    """The file with other metadata: numbers, texts and lists of whole numbers."""
    file = open_whole(path)
    writer = gguf.GGUFWriter(None, file.header.get("general.architecture"))
    copy_metadata(file.header, writer, leave_out=[*leave_out, *changed])
    for key, value in changed.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        else:
            writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value))
    for tensor in gguf.GGUFReader(path).tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    finish(writer, changed_path := path.with_name("metadata.gguf"))
    return changed_path


def finish(writer: gguf.GGUFWriter, path: Path | None = None) -> None:
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
