"""Adapters wherever they come from, as a folder in PEFT's format.

Understood are PEFT folders (lorita's, Unsloth's, TRL's, Axolotl's and LLaMA-Factory's, also one
level down or in checkpoints), hub ids, mlx-lm's folders and llama.cpp's GGUF adapters. What is not
in PEFT's format is converted once, into the hub's cache folder (``HF_HOME``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.errors import AdapterError, LoritaError
from lorita.models.adapter import CONFIG_FILE, WEIGHTS_FILE
from lorita.models.base import find_base, load_config
from lorita.models.gguf_layout import TensorNames, find_layout
from lorita.storage import hub
from lorita.storage.cache import kept_folder, mark_of

if TYPE_CHECKING:
    import torch

MLX_WEIGHTS = "adapters.safetensors"


def is_adapter(name: str | Path) -> bool:
    """Whether ``name`` is an adapter on this machine (else it may be a base model, or a hub id)."""
    path = Path(name).expanduser()
    if path.is_file():
        return path.suffix == ".gguf" and _is_gguf_adapter(path)
    return path.is_dir() and not (path / "config.json").is_file() and bool(_candidates(path))


def find_adapter(name: str | Path, base: str | None = None) -> Path:
    """The PEFT folder of the adapter that ``name`` means.

    ``base`` is needed for a GGUF adapter, which does not say where its base is. ``AdapterError``
    where there is no adapter, or more than one to choose from.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return _from_file(path, base)
    if not path.is_dir():
        return _from_hub(str(name))
    found = _candidates(path)
    if not found:
        raise AdapterError(f"{path}: {_what_is_there(path)}", hint=_HINT)
    checkpoints = [f for f in found if re.fullmatch(r"checkpoint-\d+", f.name)]
    others = [f for f in found if f not in checkpoints]
    if len(others) > 1:
        raise AdapterError(
            f"{path}: holds {len(others)} adapters",
            hint=f"Give one of them: {', '.join(str(f) for f in others[:5])}.",
        )
    chosen = others[0] if others else max(checkpoints, key=lambda f: int(f.name.split("-")[1]))
    return _from_mlx(chosen) if _is_mlx(chosen) else chosen


_HINT = (
    f"An adapter is a folder with {CONFIG_FILE} and {WEIGHTS_FILE}, a hub id, mlx-lm's folder or "
    "a llama.cpp adapter (.gguf)."
)


def _candidates(path: Path) -> list[Path]:
    """The folder itself, if it holds an adapter, else those one level below."""
    if (path / CONFIG_FILE).is_file():
        return [path]
    return sorted(f for f in path.iterdir() if (f / CONFIG_FILE).is_file())


def _what_is_there(path: Path) -> str:
    if (path / "config.json").is_file():
        return "holds a whole model, no adapter"
    if (path / WEIGHTS_FILE).is_file():
        return f"{WEIGHTS_FILE} is there, {CONFIG_FILE} is missing"
    return f"this folder holds no adapter ({CONFIG_FILE})"


def _from_hub(name: str) -> Path:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith("."):
        raise AdapterError(f"{name}: there is no such run folder", hint=_HINT)
    return hub.find_adapter(name, CONFIG_FILE)


def _is_mlx(folder: Path) -> bool:
    return (folder / MLX_WEIGHTS).is_file() and not (folder / WEIGHTS_FILE).is_file()


def _kept(source: Path, extra: str, convert: Callable[[Path], None]) -> Path:
    """A converted adapter in the cache, made by ``convert`` if it is not there."""
    return kept_folder("adapter", f"{mark_of(source)}:{extra}:1", convert)


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
    """A PEFT folder of plain LoRA matrices."""
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


def _from_mlx(folder: Path) -> Path:
    """mlx-lm: x @ lora_a @ lora_b * scale, with lora_a [in, r] and lora_b [r, out]."""

    def convert(into: Path) -> None:
        from safetensors.torch import load_file

        values = _json(folder / CONFIG_FILE)
        if values.get("fine_tune_type", "lora") != "lora":
            raise AdapterError(
                f"{folder}: mlx-lm's fine_tune_type {values['fine_tune_type']!r} cannot be read",
                hint="Fuse it with mlx_lm.fuse and use the folder as a base model.",
            )
        try:
            options = values["lora_parameters"]
            r, scale = int(options["rank"]), float(options["scale"])
        except (KeyError, TypeError, ValueError) as error:
            raise AdapterError(
                f"{folder / CONFIG_FILE}: not as mlx-lm writes it ({error})"
            ) from None
        tensors, targets = {}, set()
        for name, tensor in load_file(folder / MLX_WEIGHTS).items():
            module, _, kind = name.rpartition(".")
            if kind not in ("lora_a", "lora_b"):
                raise AdapterError(f"{folder / MLX_WEIGHTS}: {name} is no LoRA matrix")
            letter = kind[-1].upper()
            tensors[f"base_model.model.{module}.lora_{letter}.weight"] = tensor.T.contiguous()
            targets.add(module)
        _write(
            into,
            tensors,
            base_name=values.get("model"),
            r=r,
            alpha=scale * r,
            targets=sorted(targets),
        )

    return _kept(folder / MLX_WEIGHTS, "mlx", convert)


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(values, dict):
        raise AdapterError(f"{path}: holds no settings")
    return values


def _reader(path: Path) -> Any:
    try:
        from gguf import GGUFReader
    except ImportError:
        raise AdapterError(
            f"{path}: reading GGUF files needs the gguf package",
            hint='Install it with: pip install "lorita[gguf]"',
        ) from None
    try:
        return GGUFReader(path)
    except Exception as error:
        raise AdapterError(
            f"{path}: no GGUF file, or cut short ({type(error).__name__})", hint=_HINT
        ) from None


def _is_gguf_adapter(path: Path) -> bool:
    try:
        kind = _reader(path).fields.get("general.type")
    except LoritaError:
        return False
    return kind is not None and kind.contents() == "adapter"


def _from_file(path: Path, base: str | None) -> Path:
    if path.suffix != ".gguf":
        raise AdapterError(f"{path}: a file, but no .gguf adapter", hint=_HINT)
    reader = _reader(path)
    if not _is_gguf_adapter(path):
        raise AdapterError(f"{path}: a whole model, no adapter", hint="Give it as --base.")
    if base is None:
        raise AdapterError(
            f"{path}: a GGUF adapter does not say where its base is", hint="Give it with --base."
        )
    return _kept(path, base, lambda into: _convert_gguf(path, reader, base, into))


def _convert_gguf(path: Path, reader: Any, base: str, into: Path) -> None:
    """llama.cpp: lora_a [r, in], lora_b [out, r] in the file's row order, alpha/r or 1."""
    import torch

    config = load_config(find_base(base))
    layout = find_layout(config, base)
    modules = _modules_by_file_name(config, TensorNames(layout, config))
    alpha = float(reader.fields["adapter.lora.alpha"].contents())
    tensors: dict[str, torch.Tensor] = {}
    ranks: dict[str, int] = {}
    for tensor in reader.tensors:
        name, _, kind = tensor.name.rpartition(".")
        module = modules.get(name)
        if module is None or kind not in ("lora_a", "lora_b"):
            raise AdapterError(f"{path}: {tensor.name} has no place in {base}")
        array = _float32(tensor)
        embedding = name == "token_embd.weight"
        matrix = array.T.contiguous() if embedding and kind == "lora_a" else array
        if kind == "lora_b":
            order = layout.row_order(module, config, matrix.shape[0])
            if order is not None:
                matrix = matrix[torch.argsort(order)].contiguous()
            ranks[module] = matrix.shape[1]
            matrix = matrix * (alpha / matrix.shape[1]) if alpha else matrix
        part = (
            f"lora_embedding_{kind[-1].upper()}" if embedding else f"lora_{kind[-1].upper()}.weight"
        )
        tensors[f"base_model.model.{module}.{part}"] = matrix
    r = max(ranks.values())
    odd = {module: rank for module, rank in ranks.items() if rank != r}
    _write(into, tensors, base_name=base, r=r, alpha=r, targets=sorted(ranks), ranks=odd)


def _float32(tensor: Any) -> torch.Tensor:
    import gguf
    import torch

    return torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())


def _modules_by_file_name(config: Any, names: TensorNames) -> dict[str, str]:
    """For each matrix of a GGUF file, the module of the model that it belongs to."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    found = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.ndim == 2 and (file_name := names.of(name)):
            found[file_name] = name.rpartition(".")[0]
    return found
