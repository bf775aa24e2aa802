"""Whether a model is the base on which an adapter was trained, and whether it is the same bytes.

Every tensor is looked at, in a few blocks that are spread over it: a replaced layer is noticed, and
a model of billions of weights takes a fraction of a second.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lorita.errors import AdapterError, ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

_FIRST = 64
"""Values of the first two matrices, which is all that earlier versions kept."""
_MOST = 64
"""Values kept of each tensor; fewer of each where a model has thousands of them."""
_KEPT_IN_ALL = 2**16
_BLOCKS, _BLOCK = 16, 64
"""Blocks of each tensor that its digest covers, and the values of each."""
_UNALIKE = 0.35
"""Cosine between samples of one matrix in two formats: 0.9 and more for 4 bits, clearly above this
for fewer; between two different matrices about 0, give or take 0.13."""
_APART = 0.2
"""Relative distance between vectors (norms, biases), which are hardly ever quantised."""


def fingerprint(model: Any) -> dict[str, Any]:
    """What distinguishes one base model from another: its sizes and a sample of every tensor.

    The samples survive rounding and quantisation, as the same model is used in many formats.
    ``digest`` does not: it is that of the same weights, loaded as float32 or bfloat16.
    """
    import torch

    config = model.config
    sizes = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads")
    tensors = dict(_own_tensors(model))
    matrices = [tensor for tensor in tensors.values() if tensor.ndim == 2][:2]
    every = [torch.arange(0, t.numel(), max(1, t.numel() // _FIRST))[:_FIRST] for t in matrices]
    values = [_values_at(t, places) for t, places in zip(matrices, every, strict=True)]
    first = torch.cat([v.float().cpu() for v in values]).tolist() if values else []
    number = max(8, min(_MOST, _KEPT_IN_ALL // max(1, len(tensors))))
    return {
        "config": {name: getattr(config, name, None) for name in sizes},
        "sample": [float(f"{value:.3g}") for value in first],
        "tensors": {name: _packed(tensor, number) for name, tensor in tensors.items()},
        "digest": digest(tensors),
    }


def digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """A hash of the names and shapes of all tensors, and of blocks of each as bfloat16."""
    import torch

    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tuple(tensor.shape)}".encode())
        found.update(_blocks(tensor).to(torch.bfloat16).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def require_finite_weights(name: str, model: Any) -> None:
    """``ModelError`` if weights of ``model`` are not numbers, as far as blocks of each show."""
    import torch

    tensors = dict(_own_tensors(model))
    broken = [n for n, tensor in tensors.items() if not torch.isfinite(_blocks(tensor)).all()]
    if broken:
        raise ModelError(
            f"{name}: {len(broken)} of its {len(tensors)} tensors hold NaN or infinity, such as "
            f"{broken[0]}",
            hint="The file is damaged, or the number format is too narrow for its weights: "
            "download it again, or try --dtype float32.",
        )


def fingerprint_problems(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """The differences between two fingerprints; empty if they are of the same model.

    ``expected`` may come from a file. Those of earlier versions know the first matrices only.
    ``AdapterError`` if it is no fingerprint at all.
    """
    import torch

    try:
        problems = [
            f"{name} is {found['config'].get(name)}, expected {value}"
            for name, value in expected["config"].items()
            if found["config"].get(name) != value
        ]
        if problems or len(expected["sample"]) != len(found["sample"]):
            return problems or ["its first weights have different shapes"]
        if "tensors" in expected:
            return _tensor_problems(expected["tensors"], found["tensors"])
        a, b = torch.tensor(expected["sample"]), torch.tensor(found["sample"])
        alike = float(torch.nn.functional.cosine_similarity(a, b, dim=0))
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise AdapterError(
            f"the adapter's record of its base is damaged ({type(error).__name__})"
        ) from error
    return [] if alike > 0.9 else [f"its first weights are different (similarity {alike:.2f})"]


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of everything that decides which tokens a text becomes."""
    if tokenizer.is_fast:
        backend: Any = tokenizer.backend_tokenizer  # type: ignore[attr-defined]
        backend.no_truncation()  # set by whoever called it last; lorita cuts rows itself
        backend.no_padding()
        inner = backend.to_str()
    else:
        inner = f"{type(tokenizer).__name__} {sorted(tokenizer.get_vocab().items())}"
    special = sorted(f"{key} {value}" for key, value in tokenizer.special_tokens_map.items())
    return hashlib.sha256(f"{inner} {special}".encode()).hexdigest()


def _own_tensors(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights of the base itself, by name, without those of an adapter on it."""
    for name, parameter in model.named_parameters():
        held = parameter.is_floating_point() and not parameter.is_meta and parameter.numel()
        if "lora_" not in name and held:
            yield name, parameter.detach()


def _values_at(tensor: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Numbers of the flattened tensor. Nothing else is read of a mapped or quantised one."""
    quantised = getattr(tensor, "values_at", None)
    if quantised is not None:
        return quantised(places)  # type: ignore[no-any-return]
    return tensor.reshape(-1)[places.to(tensor.device)]


def _blocks(tensor: torch.Tensor) -> torch.Tensor:
    """Up to ``_BLOCKS`` blocks, spread evenly from the first value to the last, on the CPU."""
    import torch

    count = tensor.numel()
    if count <= _BLOCKS * _BLOCK:
        return _values_at(tensor, torch.arange(count)).cpu()
    step = (count - _BLOCK) // (_BLOCKS - 1)
    starts = torch.cat([torch.arange(0, count - _BLOCK + 1, step), torch.tensor([count - _BLOCK])])
    return _values_at(tensor, (starts[:, None] + torch.arange(_BLOCK)).reshape(-1)).cpu()


def _packed(tensor: torch.Tensor, number: int) -> str:
    """The shape of a tensor, and values spread over it in 8 bits each, scaled to the largest."""
    import numpy

    values = _spread(tensor, number).numpy()
    largest = float(abs(values).max())
    scale = largest / 127 if math.isfinite(largest) and largest > 0 else 1.0
    kept = (values / scale if math.isfinite(largest) else 0 * numpy.nan_to_num(values)).round()
    shape = "x".join(map(str, tensor.shape))
    return f"{shape} {scale:.4g} {base64.b64encode(kept.astype('int8').tobytes()).decode()}"


def _unpacked(text: str) -> tuple[str, torch.Tensor]:
    import torch

    shape, scale, values = text.split(" ")
    kept = torch.frombuffer(bytearray(base64.b64decode(values)), dtype=torch.int8)
    return shape, kept.float() * float(scale)


def _spread(tensor: torch.Tensor, number: int) -> torch.Tensor:
    """``number`` values spread over a tensor, or all of a smaller one, as float32 on the CPU."""
    import torch

    count = tensor.numel()
    # An odd step does not keep to a column.
    step = 1 if count <= number else (count // number - 1) | 1
    places = torch.arange(0, count, step)[:number]
    return _values_at(tensor, places).float().cpu()


def _tensor_problems(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Tensors of both whose values or shapes are different; names in one only say nothing."""
    different, shapes = [], []
    for name in sorted(expected.keys() & found.keys()):
        (shape, a), (other, b) = _unpacked(expected[name]), _unpacked(found[name])
        if shape != other:
            shapes.append(f"{name} is {other}, expected {shape}")
        elif not _alike(a, b, vector="x" not in shape):
            different.append(name)
    if different:
        shapes.append(
            f"{len(different)} of its {len(found)} tensors are different, such as {different[0]}"
        )
    return shapes


def _alike(a: torch.Tensor, b: torch.Tensor, *, vector: bool) -> bool:
    import torch

    if len(a) != len(b):  # fewer were kept of each: the model has gained or lost tensors
        return True
    if vector or not a.any():
        return float((a - b).norm()) <= _APART * max(float(a.norm()), 1e-6)
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0)) > _UNALIKE
