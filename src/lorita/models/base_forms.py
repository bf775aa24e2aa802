"""Models in forms that cannot be trained, recognised from their files before any is loaded.

Quantised weights are for running: an adapter trained on them would fit only them, and the CPU has
no fast code for most. Each form is named, with the plain model that it was made from if the folder
or its name tells.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lorita.errors import ModelError

_QUANTISED = {
    "bitsandbytes": "bitsandbytes",
    "gptq": "GPTQ",
    "awq": "AWQ",
    "compressed-tensors": "compressed-tensors",
    "fp8": "FP8",
    "fbgemm_fp8": "FP8 (FBGEMM)",
    "mxfp4": "MXFP4",
    "aqlm": "AQLM",
    "hqq": "HQQ",
    "auto-round": "AutoRound",
    "bitnet": "BitNet",
}
"""transformers' name of a method, and how people write it. Others are shown as they are."""
_MARKS = (
    r"(-unsloth)?-bnb-[48]bits?",
    r"[-_.](gptq|awq|hqq|aqlm|exl[23]|eetq|autoround|auto-round|mxfp[48]|nvfp4|w\d+a\d+)\b.*",
    r"[-_.](fp8|int[48]|quantized|mlx|[2-8]bit|q[2-8])\b.*",
)
"""What the names of quantised copies add to that of the plain model."""
_COPIERS = ("mlx-community", "thebloke", "redhatai", "neuralmagic", "nm-testing", "ista-daslab")
"""Owners on the hub who hold only copies: the plain model has another owner."""
_OTHER_FILES = {
    "model_index.json": "a diffusion pipeline, which makes images",
    "openvino_model.xml": "a model in OpenVINO's format",
    "tf_model.h5": "a model in TensorFlow's format",
    "flax_model.msgpack": "a model in Flax's format",
    "model.onnx": "a model in ONNX format",
    "onnx/model.onnx": "a model in ONNX format",
    "consolidated.safetensors": "a model in Mistral's own format",
    "consolidated.00.pth": "a model in Meta's own format",
    "qmodel.pt": "quantised (HQQ)",
}
"""A file that gives a folder's format away, where there are no safetensors files beside it."""


def check_form(name: str, config: dict[str, Any], folder: Path | None = None) -> None:
    """Raise ``ModelError`` if a model is quantised or otherwise not made for training.

    ``config`` is its ``config.json``; ``folder`` is where its files are, if they are here.
    """
    method = quantisation(config) or (_old_quantisation(folder) if folder is not None else None)
    if method is not None:
        raise ModelError(
            f"{name}: its weights are quantised ({method}), which cannot be trained",
            hint=_plain_hint(name, folder, method),
        )
    heads = [a for a in config.get("architectures") or [] if re.search(r"For\w*Classif", str(a))]
    if heads:
        raise ModelError(
            f"{name}: {heads[0]} sorts texts into classes; it has no head that writes text",
            hint=_plain_hint(name, folder),
        )


def describe_folder(folder: Path) -> str | None:
    """What a folder holds instead of a model for training; None if nothing gives it away."""
    for file, what in _OTHER_FILES.items():
        if (folder / file).is_file():
            return what
    if any(folder.glob("*.onnx")) or any(folder.glob("onnx/*.onnx")):
        return "a model in ONNX format"
    return None


def quantisation(config: dict[str, Any]) -> str | None:
    """The method with which a model's weights are quantised, from its ``config.json``."""
    places = [config, *(v for v in config.values() if isinstance(v, dict) and "model_type" in v)]
    for values in places:
        found = values.get("quantization_config") or values.get("compression_config")
        if isinstance(found, dict):
            method = str(found.get("quant_method") or found.get("quantization_method") or "")
            if not method and (found.get("load_in_4bit") or found.get("load_in_8bit")):
                method = "bitsandbytes"
            return _QUANTISED.get(method, method or "a method that its config.json does not name")
        mlx = values.get("quantization")
        if isinstance(mlx, dict) and {"bits", "group_size"} & mlx.keys():
            return f"MLX, {mlx.get('bits', '?')} bits"
        if values.get("load_in_4bit") or values.get("load_in_8bit"):
            return "bitsandbytes"
    return None


def _old_quantisation(folder: Path) -> str | None:
    """GPTQ and AWQ as their first programs wrote them: in a file of their own."""
    names = {"quantize_config.json": "GPTQ", "quant_config.json": "AWQ"}
    return next((method for file, method in names.items() if (folder / file).is_file()), None)


def plain_name(name: str) -> str | None:
    """The plain model's name in that of a quantised copy; None if it is not one.

    Without the owner where that holds only copies.
    """
    owner, _, short = name.rstrip("/").rpartition("/")
    found = short
    for mark in _MARKS:
        found = re.sub(f"{mark}$", "", found, flags=re.IGNORECASE)
    if found == short or not found:
        return None
    is_hub_owner = re.fullmatch(r"[\w.-]+", owner) and owner.lower() not in _COPIERS
    return f"{owner}/{found}" if is_hub_owner else found


def _plain_hint(name: str, folder: Path | None, method: str = "") -> str:
    model = (folder and _named_base(folder)) or plain_name(name)
    hint = (
        f"Use the plain model: --model {model}."
        if model
        else "Use the plain model that it was made from, with weights in bfloat16 or float16."
    )
    if method in ("MXFP4", "FP8"):
        hint += (
            " If there is none, transformers writes it: AutoModelForCausalLM.from_pretrained(NAME, "
            'dtype="bfloat16", quantization_config=…Config(dequantize=True)).save_pretrained(OUT).'
        )
    return hint


def _named_base(folder: Path) -> str | None:
    """The ``base_model`` in the front matter of a folder's README."""
    import yaml

    try:
        card = folder / "README.md"
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
        match = re.match(r"---\s*\n(.*?)\n---", text, flags=re.DOTALL)
        values = yaml.safe_load(match.group(1)) if match else {}
        named = values.get("base_model") if isinstance(values, dict) else None
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None
    if isinstance(named, list):
        named = named[0] if named else None
    return named if isinstance(named, str) and named else None
