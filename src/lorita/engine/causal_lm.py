"""A causal language model as two parts: the body, which ends in hidden states, and the head.

Loss and scores need logits at some positions only, so the head is computed apart. What it does is
not assumed: families multiply, divide or cap their logits, or have heads of several layers. It is
found out once for each model, from the logits of its own forward (``head_of``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lorita.engine.heads import Head, LinearHead, OwnHead, WholeModel

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 3e-3}
"""By how much logits may differ, relative to their size, because of rounding."""


@dataclass(frozen=True)
class _Parts:
    """What was found out about a model."""

    body: Any
    """Its output is the last hidden states that the logits come from; the whole model if none is
    like that."""
    vocabulary: int
    output_type: type | None = None
    """Of the body."""
    linear: tuple[float, float | None] | None = None
    """Scale and soft cap, if the head is a linear layer."""


_known: WeakKeyDictionary[nn.Module, _Parts] = WeakKeyDictionary()


def causal_lm(model: nn.Module) -> Any:
    """The transformers model inside PEFT's wrapper; without a wrapper, the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextmanager
def evaluating(lm: nn.Module) -> Iterator[None]:
    """In this context, the model does not drop anything; each part's mode is restored."""
    training = {module: module.training for module in lm.modules()}
    lm.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


def head_of(model: nn.Module) -> Head:
    """The output head of a causal LM, with or without PEFT's wrapper; nothing is copied.

    The first call for a model computes a few tokens to find out what its head does.
    """
    lm = causal_lm(model)
    parts = _parts(lm)
    if parts.linear is not None:
        return LinearHead(lm.get_output_embeddings(), parts.vocabulary, *parts.linear)
    if parts.output_type is not None:
        return OwnHead(lm, parts.body, parts.output_type, parts.vocabulary)
    return WholeModel(parts.vocabulary)


def body_of(model: nn.Module) -> Any:
    """The part of a causal LM whose first output is what its head is given.

    The model itself where there is no such part; its first output are logits.
    """
    return _parts(causal_lm(model)).body


def last_logits(model: Any, ids_1L: Tensor, count: int = 1) -> Tensor:
    """The logits [count, V] of the last positions of one row, as the model returns them.

    Those of the positions before are not computed, where the model can leave them out: with a large
    vocabulary, they would be larger than anything else in memory.
    """
    lm = causal_lm(model)
    kept = {"logits_to_keep": count} if "logits_to_keep" in signature(lm.forward).parameters else {}
    logits_1LV: Tensor = model(input_ids=ids_1L, use_cache=False, **kept).logits
    return logits_1LV[0, -count:].clone()


def looks_ahead(model: nn.Module) -> bool:
    """Whether a token's logits depend on tokens after it, as in encoders such as BERT.

    Such a model sees the token that it should predict: its loss means nothing.
    """
    lm = causal_lm(model)
    ids_T = ordinary_ids(lm, 12)
    changed_T = torch.cat([ids_T[:8], ids_T[8:].flip(0)])
    with evaluating(lm), torch.no_grad():
        one, other = (
            lm(input_ids=row_T[None], use_cache=False).logits[0, :8].float()
            for row_T in (ids_T, changed_T)
        )
    return not _close(one, other, lm.get_input_embeddings().weight.dtype)


def ordinary_ids(lm: Any, count: int) -> Tensor:
    """Token ids [count] on the model's device, none of which stands for an image or the like."""
    config = lm.config
    special = {
        value
        for part in (config, config.get_text_config())
        for name, value in part.to_dict().items()
        if isinstance(value, int) and name.endswith(("_token_id", "_token_index"))
    }
    # Some models have embeddings that are never predicted.
    rows = lm.get_input_embeddings().weight.shape[0]
    vocabulary = min(rows, getattr(config.get_text_config(), "vocab_size", rows))
    spread = (i * 7919 % vocabulary for i in range(1, 100 * count))
    ids = [token for token in spread if token not in special][:count]
    return torch.tensor(ids, device=lm.get_input_embeddings().weight.device)


def _parts(lm: Any) -> _Parts:
    if lm not in _known:
        _known[lm] = _found_parts(lm)
    return _known[lm]


def _found_parts(lm: Any) -> _Parts:
    """Body and head, from a forward of the whole model and from parts of it."""
    ids_T = ordinary_ids(lm, 8)
    # A base model's name may be another than that of its class: Llama 4 alone, without vision.
    candidates = [lm.base_model, lm.get_decoder(), getattr(lm, "model", None)]
    with evaluating(lm), torch.no_grad():
        outputs: dict[nn.Module, list[Any]] = {}
        hooks = [
            body.register_forward_hook(lambda m, args, out: outputs.setdefault(m, []).append(out))
            for body in {*candidates} - {lm, None}
        ]
        try:
            logits_TV = lm(input_ids=ids_T[None], use_cache=False).logits[0].float()
        finally:
            for hook in hooks:
                hook.remove()
        for body in candidates:
            if len(outputs.get(body, [])) == 1:
                (output,) = outputs[body]
                own = _own_head(lm, body, output, logits_TV)
                if own is not None:
                    return _Parts(
                        body, own.vocabulary, type(output), _as_linear(lm, own, output[0])
                    )
    return _Parts(lm, logits_TV.shape[-1])


def _own_head(lm: Any, body: nn.Module, output: Any, logits_TV: Tensor) -> OwnHead | None:
    """The model's forward from this body on, if it returns the model's logits."""
    try:
        own = OwnHead(lm, body, type(output), logits_TV.shape[-1])
        # Backwards: the head must not depend on where a position is.
        mine_TV = own.logits(output[0][0].flip(0)).flip(0)
    except Exception:  # a head may need more than hidden states, and fail in any way
        return None
    return own if _close(mine_TV, logits_TV, output[0].dtype) else None


def _as_linear(lm: Any, own: OwnHead, like: Tensor) -> tuple[float, float | None] | None:
    """Scale and soft cap, if the head is a linear layer and nothing else but these."""
    layer = lm.get_output_embeddings()
    if layer is None:
        return None
    generator = torch.Generator().manual_seed(0)
    hidden_ND = torch.randn(4, like.shape[-1], generator=generator).to(like)
    try:
        size = float(layer(hidden_ND).float().abs().max())
        small_ND, large_ND = hidden_ND * (0.01 / size), hidden_ND * (300 / size)
        plain_NV, out_NV = layer(small_ND).float(), own.logits(small_ND)
        scale = _among(lm.config, float((out_NV * plain_NV).sum() / (plain_NV**2).sum()), like)
        plain_NV, out_NV = layer(large_ND).float(), own.logits(large_ND)
    except Exception:  # a layer of another width, or one that takes something else
        return None
    if scale is None:
        return None
    if _close(plain_NV * scale, out_NV, like.dtype):
        return scale, None
    softcap = _among(lm.config, float(out_NV.abs().max()), like)
    if softcap and _close(softcap * torch.tanh(plain_NV * scale / softcap), out_NV, like.dtype):
        return scale, softcap
    return None


def _among(config: Any, measured: float, like: Tensor) -> float | None:
    """The exact number behind a measured one: 1, or one of the config's, or the inverse of one.

    In float32 a measured number is exact enough by itself; else None.
    """
    if not measured > 0:
        return None
    settings = config.get_text_config().to_dict().values()
    numbers = [float(v) for v in settings if isinstance(v, (int, float)) and not v <= 0]
    exact = [1.0, *numbers, *(1 / number for number in numbers)]
    nearest = min(exact, key=lambda number: abs(number - measured))
    if abs(nearest - measured) <= TOLERANCE[like.dtype] / 5 * measured:
        return nearest
    return measured if like.dtype == torch.float32 else None


def _close(a: Tensor, b: Tensor, dtype: torch.dtype) -> bool:
    return bool((a - b).norm() <= TOLERANCE.get(dtype, 1e-2) * b.norm())
