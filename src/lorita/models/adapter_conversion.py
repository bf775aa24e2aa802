"""Adapters of mlx-lm and llama.cpp, rewritten as folders in PEFT's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.errors import AdapterError
from lorita.models.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from lorita.models.adapter_schema import MlxFile
from lorita.models.gguf_files import GgufFile, StoredTensor
from lorita.models.gguf_layout import Layout, TensorNames, find_layout, text_config
from lorita.models.language_part import build
from lorita.storage.reading import checked, one_message, read_object

if TYPE_CHECKING:
    import torch

MLX_WEIGHTS = "adapters.safetensors"


def convert_mlx(folder: Path, into: Path) -> None:
    """Write mlx-lm's adapter in ``folder`` as a PEFT folder.

    mlx-lm computes x @ lora_a @ lora_b * scale, with lora_a [in, r] and lora_b [r, out]. Raises
    ``AdapterError`` for other kinds of fine-tuning and for files it does not recognise.
    """
    from safetensors.torch import load_file

    path = folder / CONFIG_FILE
    values = read_object(path, None, AdapterError)
    if values.get("fine_tune_type", "lora") != "lora":
        raise AdapterError(
            f"{folder}: mlx-lm's fine_tune_type {values['fine_tune_type']!r} is not supported",
            hint="Fuse it with mlx_lm.fuse and use the folder as a base model.",
        )
    checked(values, MlxFile, str(path), AdapterError, hint="mlx-lm writes it otherwise.")
    options = values["lora_parameters"]
    r, scale = int(options["rank"]), float(options["scale"])
    tensors, targets = {}, set()
    with one_message(f"{folder / MLX_WEIGHTS}: damaged or truncated", AdapterError):
        saved = load_file(folder / MLX_WEIGHTS)
    for name, tensor in saved.items():
        module, _, kind = name.rpartition(".")
        if kind not in ("lora_a", "lora_b"):
            raise AdapterError(f"{folder / MLX_WEIGHTS}: {name} is not a LoRA matrix")
        if tensor.ndim != 2:
            raise AdapterError(
                f"{folder / MLX_WEIGHTS}: {name} has the shape {list(tensor.shape)}; expected a "
                "matrix"
            )
        letter = kind[-1].upper()
        tensors[f"base_model.model.{module}.lora_{letter}.weight"] = tensor.T.contiguous()
        targets.add(module)
    base_name = values.get("model")
    _write(into, tensors, base_name=base_name, r=r, alpha=scale * r, targets=sorted(targets))


def convert_gguf(file: GgufFile, config: Any, base: str, into: Path) -> None:
    """Write llama.cpp's adapter ``file`` as a PEFT folder.

    ``config`` is the configuration of ``base``. The file holds lora_a [r, in] and lora_b [out, r]
    in its own row order, scaled by alpha/r or 1. Raises ``AdapterError`` for tensors that ``base``
    does not have.
    """
    layout = find_layout(config, base)
    modules = _modules_by_file_name(config, TensorNames(layout, config))
    config = text_config(config)
    alpha = float(file.header.get("adapter.lora.alpha"))
    tensors: dict[str, torch.Tensor] = {}
    ranks: dict[str, int] = {}
    for tensor in file.tensors.values():
        name, _, kind = tensor.name.rpartition(".")
        module = modules.get(name)
        if module is None or kind not in ("lora_a", "lora_b"):
            raise AdapterError(f"{file.path}: {base} has no place for {tensor.name}")
        matrix = _float32(file, tensor)
        embedding = name == "token_embd.weight"
        if embedding and kind == "lora_a":
            matrix = matrix.T.contiguous()
        if kind == "lora_b":
            ranks[module] = matrix.shape[1]
            matrix = _in_model_order(layout, module, config, matrix)
            matrix = matrix * (alpha / matrix.shape[1]) if alpha else matrix
        part = (
            f"lora_embedding_{kind[-1].upper()}" if embedding else f"lora_{kind[-1].upper()}.weight"
        )
        tensors[f"base_model.model.{module}.{part}"] = matrix
    r = max(ranks.values())
    odd = {module: rank for module, rank in ranks.items() if rank != r}
    _write(into, tensors, base_name=base, r=r, alpha=r, targets=sorted(ranks), ranks=odd)


def _in_model_order(
    layout: Layout, module: str, config: Any, matrix_BR: torch.Tensor
) -> torch.Tensor:
    """lora_b [out, r] with its rows in the model's order instead of the file's."""
    import torch

    order = layout.row_order(module, config, matrix_BR.shape[0])
    return matrix_BR if order is None else matrix_BR[torch.argsort(order)].contiguous()


def _write(
    folder: Path,
    tensors: dict[str, torch.Tensor],
    *,
    base_name: str | None,
    r: int,
    alpha: float,
    targets: list[str],
    ranks: dict[str, int] | None = None,
) -> None:
    """A PEFT folder of plain LoRA matrices; ``ranks`` are those that differ from ``r``."""
    from safetensors.torch import save_file

    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": r,
        "lora_alpha": alpha,
        "rank_pattern": ranks or {},
        "alpha_pattern": dict(ranks or {}),
        "target_modules": targets,
        "bias": "none",
        "inference_mode": True,
    }
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _float32(file: GgufFile, stored: StoredTensor) -> torch.Tensor:
    import gguf
    import torch

    kind = gguf.GGMLQuantizationType(stored.kind)
    numbers = gguf.quants.dequantize(file.bytes_of(stored), kind)
    return torch.from_numpy(numbers.reshape(stored.shape).copy())


def _modules_by_file_name(config: Any, names: TensorNames) -> dict[str, str]:
    """The model's module for each matrix of a GGUF file, by the matrix's name in the file."""
    import torch

    with torch.device("meta"):
        model = build(config)
    found = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.ndim == 2 and (file_name := names.of(name)):
            found[file_name] = name.rpartition(".")[0]
    return found
