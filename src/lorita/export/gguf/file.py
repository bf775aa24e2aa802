"""A run as a GGUF file: the adapter alone (``adapter_file.py``), or base and adapter merged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.export.gguf.adapter_file import MERGE_HINT, NotAlone, write_adapter
from lorita.export.gguf.grown_vocabulary import grown_vocabulary
from lorita.export.gguf.merged_tensors import over_file, whole_model
from lorita.export.gguf.metadata import add_metadata
from lorita.export.gguf.number_formats import AS_BASE, AT_LEAST_8, file_type
from lorita.export.gguf.vocabulary import add_vocabulary
from lorita.export.gguf.writer import Planned, copy_metadata, new_writer, write_tensors
from lorita.models.adapter_embeddings import saved_rows
from lorita.models.gguf_files import GgufFile, open_whole
from lorita.models.gguf_layout import find_layout, text_config
from lorita.storage.files import check_room
from lorita.storage.run_record import read_record
from lorita.training.events import OnEvent, unseen

if TYPE_CHECKING:
    import gguf
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

    from lorita.inference.tuned_model import TunedModel


def write_run(
    tuned: TunedModel,
    folder: Path | None,
    path: Path,
    *,
    merged: bool,
    quantize: str,
    name: str,
    on_event: OnEvent = unseen,
) -> list[str]:
    """Write the adapter, or the merged model with the stop tokens of the run in ``folder``.

    ``name`` is the model's name in the file, ``quantize`` the format of the merged model, which may
    be ``AS_BASE`` or ``AT_LEAST_8``: q8_0 where the base is no GGUF file. Returns notes for the
    user. The file is not checked.
    """
    own_embeddings = folder is not None and saved_rows(folder) is not None
    if not merged:
        if own_embeddings:
            raise NotAlone("a GGUF adapter cannot hold embeddings of its own", hint=MERGE_HINT)
        return write_adapter(tuned.model, path, base_name=tuned.base.name, on_event=on_event)
    record = read_record(folder) if folder is not None else None
    base_file = None if own_embeddings else tuned.base.gguf_path
    if quantize in (AS_BASE, AT_LEAST_8) and base_file is None:
        quantize = "q8_0"
    return write_merged(
        tuned.model,
        tuned.tokenizer,
        path,
        quantize=quantize,
        base_name=tuned.base.name,
        base_file=base_file,
        name=name,
        stop_tokens=record.stop_tokens if record else (),
        on_event=on_event,
    )


def write_merged(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    path: Path,
    *,
    quantize: str,
    base_name: str,
    base_file: Path | None,
    name: str,
    stop_tokens: Sequence[str] = (),
    on_event: OnEvent = unseen,
) -> list[str]:
    """Write base and adapter as one model; returns notes for the user.

    If the base is itself a GGUF file (``base_file``), its metadata and all tensors that the adapter
    leaves alone are copied from it.
    """
    import gguf

    whole = model.get_base_model().config
    config = text_config(whole)
    layout = find_layout(config, base_name)
    writer = new_writer(layout)
    if base_file is not None:
        own_file = open_whole(base_file)
        leave_out = ["general.file_type", "general.quantization_version", "general.name"]
        rows = model.get_input_embeddings().weight.shape[0]
        grown = grown_vocabulary(own_file.header, tokenizer, rows)
        copy_metadata(own_file.header, writer, leave_out, grown)
        planned = over_file(model, layout, own_file, quantize)
        notes = [f"Metadata and tokenizer are those of {base_file.name}"]
    else:
        notes = add_metadata(writer, config)
        rows = model.get_input_embeddings().weight.shape[0]
        notes += add_vocabulary(writer, tokenizer, rows, stop_tokens, family=layout.architecture)
        planned = whole_model(model, layout, quantize)
        if config is not whole:
            notes.append(
                "The part that writes text: to read images, llama.cpp needs the rest as a file of "
                "its own (convert_hf_to_gguf.py --mmproj)"
            )
    writer.add_name(name)
    if base_file is not None and quantize in (AS_BASE, AT_LEAST_8):
        _add_file_type_of_base(writer, own_file, planned)
    else:
        writer.add_file_type(file_type(quantize))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    check_room(path, sum(tensor.size for tensor in planned))
    write_tensors(writer, path, planned, on_event)
    if base_file is not None and quantize in (AS_BASE, AT_LEAST_8):
        return [*notes, *_as_base_notes(planned, own_file)]
    return [*notes, *_format_notes(planned, quantize)]


def _add_file_type_of_base(
    writer: gguf.GGUFWriter, base: GgufFile, planned: Sequence[Planned]
) -> None:
    """``general.file_type``: the base's, or that of the format that most other matrices have."""
    others = _other_formats(planned, base)
    own = base.header.get("general.file_type")
    if others:
        ((_, new), _), *_ = others.most_common(1)
        writer.add_file_type(file_type(new.lower()))
    elif own is not None:
        writer.add_file_type(int(own))


def _as_base_notes(planned: Sequence[Planned], base: GgufFile) -> list[str]:
    """In which formats matrices are that have another one in the base's file."""
    return [
        f"{count} matrices that the adapter changes are {new}, not {old} as in the base's file"
        for (old, new), count in sorted(_other_formats(planned, base).items())
    ]


def _other_formats(planned: Sequence[Planned], base: GgufFile) -> Counter[tuple[str, str]]:
    """How many tensors have another format than in the base's file: (old, new)."""
    import gguf

    own = {t.name: gguf.GGMLQuantizationType(t.kind).name for t in base.tensors.values()}
    return Counter(
        (own[tensor.name], tensor.kind.name)
        for tensor in planned
        if own.get(tensor.name, tensor.kind.name) != tensor.kind.name
    )


def _format_notes(planned: Sequence[Planned], quantize: str) -> list[str]:
    """Which matrices are written in a finer format than ``quantize``."""
    finer = [
        tensor.name
        for tensor in planned
        if len(tensor.shape) > 1 and tensor.kind.name.lower() != quantize
    ]
    if not finer:
        return []
    shown = ", ".join(finer[:3]) + (" …" if len(finer) > 3 else "")
    return [f"{len(finer)} matrices are kept in a finer format than {quantize}: {shown}"]
