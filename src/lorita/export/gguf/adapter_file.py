"""The adapter of a run as a GGUF file of its own, to be put on a GGUF file of the base.

An adapter with parts that such a file cannot hold (DoRA, biases, whole modules) is refused; the
message suggests merging instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.errors import AdapterError
from lorita.export.gguf.writer import Planned, new_writer, numpy_float32, write_tensors
from lorita.export.merged.weights import active_adapter
from lorita.models.adapter import changes_base
from lorita.models.adapter_kinds import plain_lora_problems
from lorita.models.gguf_layout import Layout, TensorNames, find_layout, text_config
from lorita.storage.files import check_room
from lorita.training.events import OnEvent, unseen

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

MERGE_HINT = "Export the whole model instead: lorita export gguf RUN OUT.gguf --merged"


class NotAlone(AdapterError):
    """The adapter has parts that a GGUF adapter cannot hold."""


def write_adapter(
    model: PeftModel, path: Path, *, base_name: str, on_event: OnEvent = unseen
) -> list[str]:
    """Write the adapter of ``model`` for llama.cpp; returns notes for the user.

    Every ``lora_b`` includes the scale (lora_alpha/r, or rsLoRA's), and ``adapter.lora.alpha`` is
    0, which tells llama.cpp to use the tensors as they are. Raises ``NotAlone`` if the adapter has
    parts that the file cannot hold.
    """
    import gguf

    require_representable(model.peft_config[active_adapter(model)])
    config = text_config(model.get_base_model().config)
    layout = find_layout(config, base_name)
    names = TensorNames(layout, config)
    planned = list(_adapter_tensors(model, layout, names))
    writer = new_writer(layout)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 0.0)
    invocation = getattr(model.peft_config[active_adapter(model)], "alora_invocation_tokens", None)
    if invocation:
        kinds = gguf.GGUFValueType
        key = gguf.Keys.Adapter.ALORA_INVOCATION_TOKENS
        writer.add_key_value(key, list(invocation), kinds.ARRAY, sub_type=kinds.UINT32)
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, Path(base_name).name)
    check_room(path, sum(tensor.size for tensor in planned))
    write_tensors(writer, path, planned, on_event)
    notes = [f"{len(planned) // 2} matrices, with their scale folded in"]
    if invocation:
        notes.append(
            f"an activated LoRA: llama.cpp's server waits for its {len(invocation)} invocation "
            "tokens, and has been seen to begin one token before them"
        )
    return notes


def require_representable(config: Any) -> None:
    """Raise ``NotAlone`` if a GGUF adapter cannot hold all that this PEFT configuration trains."""
    found = plain_lora_problems(config)
    if not found and changes_base(config):
        found = [f"a base changed by {config.init_lora_weights}"]
    if found:
        raise NotAlone(f"a GGUF adapter cannot hold {', '.join(found)}", hint=MERGE_HINT)


def _adapter_tensors(model: PeftModel, layout: Layout, names: TensorNames) -> Iterator[Planned]:
    """``lora_a`` and ``lora_b`` of every adapted layer, under llama.cpp's names."""
    import gguf
    from peft.tuners.lora import LoraLayer

    whole = model.get_base_model().config
    config = text_config(whole)
    tied = getattr(whole, "tie_word_embeddings", False) and not layout.output
    for module_name, module in model.get_base_model().named_modules():
        if not isinstance(module, LoraLayer):
            continue
        down, up = lora_matrices(module)
        takes_one = layout.takes_adapter(module_name) and not hasattr(module, "parameter_name")
        if down.ndim != 2 or not takes_one:
            raise _not_on(module_name)
        if (inputs := layout.column_order(module_name, config)) is not None:
            down = down[:, inputs]
        if active_adapter(module) in module.lora_embedding_A:
            down = down.T  # one row per token
        found = list(_outputs(layout, names, config, module_name, up))
        if not found or (found[0][0] == "output.weight" and tied):
            raise _not_on(module_name)
        for name, rows in found:
            for kind, matrix in (("lora_a", down), ("lora_b", rows)):
                array = numpy_float32(matrix)
                yield Planned(
                    f"{name}.{kind}",
                    array.shape,
                    gguf.GGMLQuantizationType.F32,
                    lambda array=array: array,  # type: ignore[misc]
                )


def _not_on(module_name: str) -> NotAlone:
    return NotAlone(
        f"llama.cpp cannot put an adapter on {module_name} of this model", hint=MERGE_HINT
    )


def _outputs(
    layout: Layout, names: TensorNames, config: Any, module_name: str, up: torch.Tensor
) -> Iterator[tuple[str, torch.Tensor]]:
    """The matrices of the file that a module's outputs are in, and the rows of ``up`` for each."""
    for piece in layout.pieces:
        in_file = piece.file_names(f"{module_name}.weight")
        if in_file is not None:
            if piece.of_rows:
                yield from zip(in_file, piece.convert(config, up), strict=True)
            return
    name = names.of(f"{module_name}.weight")
    order = layout.row_order(module_name, config, up.shape[0])
    if name is not None:
        yield name, up if order is None else up[order]


def lora_matrices(module: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A layer's two matrices in float32: [r, in], and [out, r] multiplied by the scale."""
    name = active_adapter(module)
    if name in module.lora_embedding_A:
        down, up = module.lora_embedding_A[name], module.lora_embedding_B[name]
    else:
        down, up = module.lora_A[name].weight, module.lora_B[name].weight
    return down.detach().float(), up.detach().float() * module.scaling[name]
