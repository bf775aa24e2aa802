"""A run as a GGUF file: the adapter alone (``adapter_file.py``), or base and adapter merged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.errors import AdapterError
from lorita.export.gguf.adapter_file import MERGE_HINT, NotAlone, write_adapter
from lorita.export.gguf.grown_vocabulary import grown_vocabulary
from lorita.export.gguf.metadata import add_metadata, rope_tensors
from lorita.export.gguf.number_formats import (
    AS_BASE,
    AT_LEAST_8,
    closest_format,
    eight_bits,
    encode,
    file_type,
    tensor_format,
)
from lorita.export.gguf.vocabulary import add_vocabulary
from lorita.export.gguf.writer import (
    Planned,
    copy_metadata,
    new_writer,
    numpy_float32,
    write_tensors,
)
from lorita.export.merged.weights import Weight, weights
from lorita.models.adapter_embeddings import saved_rows
from lorita.models.gguf_files import GgufFile, StoredTensor, open_whole
from lorita.models.gguf_layout import Layout, TensorNames, find_layout
from lorita.models.gguf_tensors import read_tensor
from lorita.storage.files import check_room
from lorita.storage.run_record import read_record
from lorita.training.events import OnEvent, unseen

if TYPE_CHECKING:
    import gguf
    import numpy as np
    import torch
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

    config = model.get_base_model().config
    layout = find_layout(config, base_name)
    writer = new_writer(layout)
    if base_file is not None:
        own_file = open_whole(base_file)
        leave_out = ["general.file_type", "general.quantization_version", "general.name"]
        rows = model.get_input_embeddings().weight.shape[0]
        grown = grown_vocabulary(own_file.header, tokenizer, rows)
        copy_metadata(own_file.header, writer, leave_out, grown)
        planned = _over_file(model, layout, own_file, quantize)
        notes = [f"Metadata and tokenizer are those of {base_file.name}"]
    else:
        notes = add_metadata(writer, config)
        rows = model.get_input_embeddings().weight.shape[0]
        add_vocabulary(writer, tokenizer, rows, stop_tokens)
        planned = _whole(model, layout, quantize)
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


def _whole(model: PeftModel, layout: Layout, quantize: str) -> list[Planned]:
    """Every tensor of the merged model."""
    config = model.get_base_model().config
    planned = _planned(model, layout, quantize, changed_only=False)
    found = {tensor.name for tensor in planned}
    if layout.output and "output.weight" not in found:
        embeddings = next(tensor for tensor in planned if tensor.name == "token_embd.weight")
        planned.append(Planned("output.weight", embeddings.shape, embeddings.kind, embeddings.make))
    import gguf

    kind = gguf.GGMLQuantizationType.F32
    for name, array in rope_tensors(config).items():
        planned.append(Planned(name, array.shape, kind, lambda array=array: array))  # type: ignore[misc]
    return planned


Kinds = Mapping[str, "gguf.GGMLQuantizationType"]


def _planned(
    model: PeftModel,
    layout: Layout,
    quantize: str,
    *,
    changed_only: bool,
    kinds: Kinds | None = None,
) -> list[Planned]:
    """The tensors of the merged model, or only those that the adapter changes.

    ``kinds`` are formats by a tensor's name in the file, for ``AS_BASE``.
    """
    config = model.get_base_model().config
    import torch

    names = TensorNames(layout, config)
    planned = []
    for weight in weights(model):
        if changed_only and not weight.changed:
            continue
        meta = torch.empty(weight.shape, device="meta")
        found = layout.in_file(weight.name, meta, config, names)
        if not found or (found[0][0] == "output.weight" and layout.output is None):
            if weight.name.endswith("lm_head.weight") and not weight.changed:
                continue
            raise AdapterError(f"GGUF files of {config.model_type} cannot hold {weight.name}")
        for number, (name, like) in enumerate(found):
            convert = partial(_part, weight, number, layout, config, names)
            planned.append(_plan(name, tuple(like.shape), quantize, kinds or {}, convert))
    return planned


def _part(
    weight: Weight, number: int, layout: Layout, config: Any, names: TensorNames
) -> torch.Tensor:
    """One of the tensors that a weight is in the file."""
    return layout.in_file(weight.name, weight.read().float(), config, names)[number][1]


def _plan(
    name: str,
    shape: tuple[int, ...],
    quantize: str,
    kinds: Kinds,
    convert: Callable[[], torch.Tensor],
) -> Planned:
    if quantize in (AS_BASE, AT_LEAST_8):
        # An output matrix of its own was tied to the embeddings before the adapter changed it.
        own = kinds.get(name, kinds["token_embd.weight"])
        kind = closest_format(own) if quantize == AS_BASE else eight_bits(own)
    else:
        kind = tensor_format(name, shape, quantize)
    return Planned(name, shape, kind, lambda: encode(numpy_float32(convert()), kind))


def _over_file(model: PeftModel, layout: Layout, base: GgufFile, quantize: str) -> list[Planned]:
    """The tensors of a GGUF base, with those that the adapter changes replaced."""
    import gguf

    kinds = {t.name: gguf.GGMLQuantizationType(t.kind) for t in base.tensors.values()}
    found = _planned(model, layout, quantize, changed_only=True, kinds=kinds)
    changed = {tensor.name: tensor for tensor in found}
    planned = []
    for tensor in base.tensors.values():
        taken = changed.pop(tensor.name, None)
        planned.append(taken or _kept(base, tensor, quantize))
    # What is left: an output matrix that was tied to the embeddings before the adapter changed it.
    return [*planned, *changed.values()]


def _kept(base: GgufFile, tensor: StoredTensor, quantize: str) -> Planned:
    """A tensor of the base's file; its bytes are copied if they are already in the right format."""
    import gguf
    import torch

    own = kind = gguf.GGMLQuantizationType(tensor.kind)
    if quantize not in (AS_BASE, AT_LEAST_8):
        kind = tensor_format(tensor.name, tensor.shape, quantize)

    def make() -> np.ndarray[Any, Any]:
        if own == kind:
            return base.bytes_of(tensor)
        return encode(numpy_float32(read_tensor(base, tensor, torch.float32)), kind)

    return Planned(tensor.name, tensor.shape, kind, make)
