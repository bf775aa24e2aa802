"""GGUF files of families whose layout lorita does not know: transformers' rules, lorita's reader.

transformers has a rule for each family that says what becomes of a tensor. Given one tensor at a
time in float32, it needs no more memory than that beside the model. Where a version of transformers
has other rules than those used here, it reads the file itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lorita.models.gguf_model import Loaded, ReadTensor, filled_model, model_shell, unused_in

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

    from lorita.models.gguf_files import GgufFile


def load_other(
    file: GgufFile, read: ReadTensor, config: PretrainedConfig, dtype: torch.dtype
) -> Loaded:
    """The model in ``dtype``, by transformers' rules for its family."""
    architecture = str(file.header.get("general.architecture"))
    rules = _rules(architecture, config)
    if rules is None:
        return _by_transformers(file, dtype)
    import torch

    processor, names_of = rules
    shell = model_shell(config, dtype)
    names = names_of(shell, processor)
    parsed: dict[str, dict[str, Any]] = {"tensors": {}}  # where experts' tensors are gathered
    taken = set()
    for stored in file.tensors.values():
        result = processor.process(
            weights=read(stored, torch.float32, None).numpy(),
            name=stored.name,
            tensor_key_mapping=names,
            parsed_parameters=parsed,
        )
        if result.name is None:  # it has been put into ``parsed``
            taken.add(stored.name)
        elif result.name in names:
            tensor = torch.from_numpy(result.weights).to(dtype, copy=True)
            parsed["tensors"][names[result.name]] = tensor.contiguous()
            taken.add(stored.name)
    state = {name: tensor.to(dtype) for name, tensor in parsed["tensors"].items()}
    return filled_model(shell, state, unused_in(file, taken))


def _rules(architecture: str, config: PretrainedConfig) -> tuple[Any, Any] | None:
    """transformers' processor and its map of names; None where it has neither for this family."""
    try:
        from transformers.integrations.gguf import is_gguf_arch_supported

        if is_gguf_arch_supported(architecture):
            return None
    except ImportError:
        pass
    try:
        from transformers.modeling_gguf_pytorch_utils import (
            TENSOR_PROCESSORS,
            TensorProcessor,
            get_gguf_hf_weights_map,
        )
    except ImportError:
        return None
    kind = TENSOR_PROCESSORS.get(architecture, TensorProcessor)
    return kind(config=config.to_dict()), get_gguf_hf_weights_map


def _by_transformers(file: GgufFile, dtype: torch.dtype) -> Loaded:
    from transformers import AutoModelForCausalLM

    model, report = AutoModelForCausalLM.from_pretrained(
        str(file.path.parent), gguf_file=file.path.name, dtype=dtype, output_loading_info=True
    )
    # The tensors are ordinary ones, but the mark makes save_pretrained and Trainers reject them.
    for holder, name in (
        (model.config, "quantization_config"),
        (model, "is_quantized"),
        (model, "hf_quantizer"),
        (model, "quantization_method"),
    ):
        if name in vars(holder):
            delattr(holder, name)
    return Loaded(model, sorted(report["missing_keys"]), sorted(report["unexpected_keys"]))
