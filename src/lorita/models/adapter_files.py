"""The two files of an adapter in PEFT's format: their names, validity and size."""

from __future__ import annotations

from pathlib import Path

from lorita.errors import AdapterError
from lorita.models.adapter_schema import check_tensors, read_adapter_file

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


def require_files(folder: Path) -> None:
    """Raise ``AdapterError`` unless ``folder`` holds both files, and they fit each other."""
    from safetensors import SafetensorError, safe_open

    if (folder / "adapter_model.bin").is_file() and not (folder / WEIGHTS_FILE).is_file():
        raise AdapterError(
            f"{folder}: adapter_model.bin is a pickle, which can run code; lorita does not read it",
            hint="If you trust it, load it with PEFT and call save_pretrained() again.",
        )
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise AdapterError(f"{folder}: no {name}, so this is not a LoRA adapter")
    try:
        with safe_open(folder / WEIGHTS_FILE, framework="pt"):
            pass
    except (OSError, SafetensorError) as error:
        raise AdapterError(
            f"{folder / WEIGHTS_FILE}: damaged or truncated ({error})",
            hint="Copy or download it again.",
        ) from error
    check_tensors(folder / WEIGHTS_FILE, read_adapter_file(folder / CONFIG_FILE))


def require_finite(folder: Path) -> None:
    """Raise ``AdapterError`` naming a tensor of the adapter that holds NaN or infinity."""
    import torch
    from safetensors import safe_open

    broken = []
    with safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
        names = list(file.keys())
        for name in names:
            tensor = file.get_tensor(name)
            if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
                what = "NaN" if torch.isnan(tensor.float()).any() else "infinity"
                broken.append(f"{name} holds {what}")
    if broken:
        raise AdapterError(
            f"{folder / WEIGHTS_FILE}: {broken[0]} ({len(broken)} of {len(names)} tensors have "
            "values that are not numbers)",
            hint="Its training diverged, or the file is damaged: use an earlier checkpoint.",
        )


def size_report(folder: Path) -> list[tuple[str, int]]:
    """What the weights file is made of: (kind of tensor, bytes), largest first."""
    from safetensors import safe_open

    sizes: dict[str, int] = {}
    with safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (not a mapping)
            tensor = file.get_tensor(name)
            sizes[_kind(name)] = sizes.get(_kind(name), 0) + tensor.nbytes
    return sorted(sizes.items(), key=lambda item: -item[1])


def _kind(name: str) -> str:
    for part in ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "magnitude"):
        if part in name:
            return part
    if "trainable_tokens" in name:
        return "new tokens"
    return "biases" if name.endswith(".bias") else "whole modules"
