"""GGUF files of a run: the adapter alone, or base and adapter merged.

What a GGUF adapter cannot hold (DoRA, biases, whole modules) is refused, with merging as the way
round.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.errors import AdapterError
from lorita.export.gguf.metadata import add_metadata, rope_tensors
from lorita.export.gguf.number_formats import encode, file_type, tensor_format
from lorita.export.gguf.vocabulary import add_vocabulary
from lorita.export.gguf.writer import Planned, copy_metadata, numpy_float32, write_tensors
from lorita.export.merged import weights as tensors
from lorita.models.gguf_layout import Layout, TensorNames, find_layout
from lorita.storage.files import check_room

if TYPE_CHECKING:
    import gguf
    import numpy as np
    import torch
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

_MERGE = "Export the whole model instead: lorita export gguf RUN OUT.gguf --merged"


class NotAlone(AdapterError):
    """The adapter has parts that a GGUF adapter cannot hold."""


def write_adapter(model: PeftModel, path: Path, *, base_name: str) -> list[str]:
    """Write the adapter of ``model`` for llama.cpp; returns what there is to say.

    Each ``lora_b`` holds the scale (lora_alpha/r, or rsLoRA's), and ``adapter.lora.alpha`` is 0,
    by which llama.cpp takes the tensors as they are.
    """
    import gguf

    require_representable(model.peft_config[tensors.active_adapter(model)])
    config = model.get_base_model().config
    layout = find_layout(config, base_name)
    names = TensorNames(layout, config)
    planned = list(_adapter_tensors(model, layout, names))
    writer = gguf.GGUFWriter(None, gguf.MODEL_ARCH_NAMES[_architecture(layout)])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 0.0)
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, Path(base_name).name)
    check_room(path, sum(tensor.size for tensor in planned))
    write_tensors(writer, path, planned)
    return [f"{len(planned) // 2} matrices, their scale folded in"]


def _architecture(layout: Layout) -> gguf.MODEL_ARCH:
    import gguf

    return gguf.MODEL_ARCH[layout.architecture.upper()]


def require_representable(config: Any) -> None:
    """``NotAlone`` where an adapter of this PEFT configuration has what GGUF cannot hold."""
    from lorita.models.adapter import changes_base

    found = [
        name
        for name, there in (
            ("DoRA's magnitudes", config.use_dora),
            ("trained biases", config.bias != "none" or config.lora_bias),
            (f"whole modules ({', '.join(config.modules_to_save or [])})", config.modules_to_save),
            ("single trained tokens", getattr(config, "trainable_token_indices", None)),
            ("experts' parameters", getattr(config, "target_parameters", None)),
            (f"a base that {config.init_lora_weights} has changed", changes_base(config)),
        )
        if there
    ]
    if found:
        raise NotAlone(f"a GGUF adapter cannot hold {', '.join(found)}", hint=_MERGE)


def _adapter_tensors(model: PeftModel, layout: Layout, names: TensorNames) -> Iterator[Planned]:
    import gguf
    from peft.tuners.lora import LoraLayer

    config = model.get_base_model().config
    tied = getattr(config, "tie_word_embeddings", False) and not layout.output
    for module_name, module in model.get_base_model().named_modules():
        if not isinstance(module, LoraLayer):
            continue
        name = names.of(f"{module_name}.weight")
        if name is None or (name == "output.weight" and tied):
            raise NotAlone(
                f"llama.cpp has no place for an adapter on {module_name} in this model", hint=_MERGE
            )
        down, up = lora_matrices(module)
        order = layout.row_order(module_name, config, up.shape[0])
        up = up if order is None else up[order]
        if tensors.active_adapter(module) in module.lora_embedding_A:
            down = down.T  # one row for each token
        for kind, matrix in (("lora_a", down), ("lora_b", up)):
            array = numpy_float32(matrix)
            yield Planned(
                f"{name}.{kind}",
                array.shape,
                gguf.GGMLQuantizationType.F32,
                lambda array=array: array,  # type: ignore[misc]
            )


def lora_matrices(module: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A layer's two matrices in float32: [r, in], and [out, r] with the scale folded in."""
    name = tensors.active_adapter(module)
    if name in module.lora_embedding_A:
        down, up = module.lora_embedding_A[name], module.lora_embedding_B[name]
    else:
        down, up = module.lora_A[name].weight, module.lora_B[name].weight
    return down.detach().float(), up.detach().float() * module.scaling[name]


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
) -> list[str]:
    """Write base and adapter as one model; returns what there is to say.

    A base that is itself a GGUF file gives its metadata and its untouched tensors.
    """
    import gguf

    config = model.get_base_model().config
    layout = find_layout(config, base_name)
    writer = gguf.GGUFWriter(None, gguf.MODEL_ARCH_NAMES[_architecture(layout)])
    if base_file is not None:
        reader = gguf.GGUFReader(base_file)
        own = ("general.file_type", "general.quantization_version", "general.name")
        copy_metadata(reader, writer, leave_out=own)
        planned = _over_file(model, layout, reader, quantize)
        notes = [f"Metadata and tokenizer are those of {base_file.name}"]
    else:
        notes = add_metadata(writer, config)
        rows = model.get_input_embeddings().weight.shape[0]
        add_vocabulary(writer, tokenizer, rows, stop_tokens)
        planned = _whole(model, layout, quantize)
    writer.add_name(name)
    writer.add_file_type(file_type(quantize))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    check_room(path, sum(tensor.size for tensor in planned))
    write_tensors(writer, path, planned)
    return [*notes, *_format_notes(planned, quantize)]


def _format_notes(planned: Sequence[Planned], quantize: str) -> list[str]:
    larger = [
        tensor.name
        for tensor in planned
        if len(tensor.shape) > 1 and tensor.kind.name.lower() != quantize
    ]
    if not larger:
        return []
    shown = ", ".join(larger[:3]) + (" …" if len(larger) > 3 else "")
    return [f"{len(larger)} matrices are not kept as {quantize} but finer: {shown}"]


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


def _planned(
    model: PeftModel, layout: Layout, quantize: str, *, changed_only: bool
) -> list[Planned]:
    config = model.get_base_model().config
    names = TensorNames(layout, config)
    planned = []
    for weight in tensors.weights(model):
        if changed_only and not weight.changed:
            continue
        name = names.of(weight.name)
        if name is None or (name == "output.weight" and layout.output is None):
            if weight.name.endswith("lm_head.weight") and not weight.changed:
                continue
            raise AdapterError(f"a GGUF file of {config.model_type} has no place for {weight.name}")
        planned.append(_plan(weight, name, layout, config, quantize))
    return planned


def _plan(weight: tensors.Weight, name: str, layout: Layout, config: Any, quantize: str) -> Planned:
    module = weight.name.rpartition(".")[0]
    turned = layout.turns(module) and len(weight.shape) == 2
    shape = weight.shape[::-1] if turned else weight.shape
    kind = tensor_format(name, shape, quantize)

    def make() -> np.ndarray[Any, Any]:
        tensor = layout.to_file(weight.name, weight.read().float(), config)
        return encode(numpy_float32(tensor), kind)

    return Planned(name, shape, kind, make)


def _over_file(
    model: PeftModel, layout: Layout, reader: gguf.GGUFReader, quantize: str
) -> list[Planned]:
    """The tensors of a GGUF base, those that the adapter changes replaced."""
    changed = {t.name: t for t in _planned(model, layout, quantize, changed_only=True)}
    planned = []
    for tensor in reader.tensors:
        taken = changed.pop(tensor.name, None)
        planned.append(taken or _kept(tensor, quantize))
    # An output matrix that the adapter has parted from the embeddings.
    return [*planned, *changed.values()]


def _kept(tensor: Any, quantize: str) -> Planned:
    """A tensor of the base's file, its bytes unchanged where they are in the wanted format."""
    import gguf

    shape = tuple(int(n) for n in reversed(tensor.shape))
    kind = tensor_format(tensor.name, shape, quantize)

    def make() -> np.ndarray[Any, Any]:
        if tensor.tensor_type == kind:
            array: np.ndarray[Any, Any] = tensor.data
            return array
        return encode(gguf.quants.dequantize(tensor.data, tensor.tensor_type), kind)

    return Planned(tensor.name, shape, kind, make)
