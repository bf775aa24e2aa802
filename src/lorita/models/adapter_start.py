"""Where an adapter starts: PEFT's initialisations that look at the base's weights, or at rows.

PEFT computes the matrices itself, on a copy of one layer at a time; the base is left unchanged
(``adapter_halves.py``).
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from lorita.engine.linears import is_plain_linear, weight_of
from lorita.errors import AdapterError
from lorita.models.adapter_halves import (
    FixedHalves,
    fixed_halves,
    is_computed,
    takes_out_start,
)
from lorita.models.loftq import start_loftq
from lorita.system.quiet import quiet_libraries

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig, PeftModel
    from peft.tuners.lora import LoraLayer
    from transformers import PreTrainedModel

Batches: TypeAlias = Callable[[], Iterable[dict[str, "torch.Tensor"]]]
"""Training rows as a model takes them: input_ids, attention_mask and labels, [B, L]."""
MOST_CALLS = 400
"""Batches that EVA may look at; it takes a few dozen where the rows are enough."""
FROM_ROWS = ("eva", "lora_ga", "corda")
"""Initialisations that look at training rows."""


def start_adapter(
    model: PeftModel,
    scheme: object,
    batches: Batches | None,
    original: Callable[[], PreTrainedModel] | None = None,
) -> FixedHalves:
    """Give a new adapter, attached with ``attached_options``, its start.

    ``batches`` are needed for those of ``FROM_ROWS``; for LoftQ, ``original`` loads the base as it
    was before it was quantised. Raises ``AdapterError`` where a layer or the
    rows do not suit the initialisation.
    """
    if not is_computed(scheme):
        return FixedHalves()
    layers = _layers(model, str(scheme))
    try:
        if scheme == "eva":
            assert batches is not None
            _start_eva(model, batches)
            return FixedHalves()
        if scheme == "loftq":
            assert original is not None
            start_loftq(layers, original())
            return FixedHalves()
        with _looked_at(model, layers, str(scheme), batches):
            for layer in layers.values():
                _start_layer(layer, str(scheme))
    except (ValueError, RuntimeError, TypeError, IndexError) as error:
        said = str(error).strip().partition("\n")[0]
        raise AdapterError(
            f"init_lora_weights {scheme} cannot start this adapter: {said}",
            hint="A smaller r or more training rows may help; or --init-lora-weights true.",
        ) from error
    if scheme == "mica":
        for layer in layers.values():
            layer.lora_B["default"].weight.requires_grad_(False)
        return FixedHalves()
    fixed = fixed_halves(model, scheme)
    fixed.stop_gradients()
    return fixed


def _layers(model: PeftModel, scheme: str) -> dict[str, LoraLayer]:
    """The adapter's layers; ``AdapterError`` if there are others than plain linear ones."""
    from peft.tuners.lora import Linear, LoraLayer

    base = model.get_base_model()
    found = {n: m for n, m in base.named_modules() if isinstance(m, LoraLayer)}
    problems = []
    for name, layer in found.items():
        linear = isinstance(layer, Linear) and is_plain_linear(layer.get_base_layer())
        floating = linear and layer.get_base_layer().weight.is_floating_point()
        half = layer.r["default"] // (2 if takes_out_start(scheme) else 1)
        least = min(weight_of(layer.get_base_layer()).shape) if floating else 0
        if not floating:
            problems.append(f"init_lora_weights {scheme}: {name} is no plain linear layer")
        elif half > least:
            problems.append(
                f"init_lora_weights {scheme}: r {half} is more than {name} has, {least}"
            )
    if problems:
        raise AdapterError(
            problems[:3], hint="Choose others with --target-modules, a smaller --r, or another way."
        )
    return found


def _start_layer(layer: Any, scheme: str) -> None:
    """Start one layer as PEFT starts a layer of its own on a float32 copy of the base's weight."""
    import torch
    from peft.tuners.lora import Linear

    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    doubled = takes_out_start(scheme)
    r = a.shape[0] // (2 if doubled else 1)
    own = layer.get_base_layer()
    twin = torch.nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
    twin.weight = torch.nn.Parameter(weight_of(own).detach().float().clone(), requires_grad=False)
    for name in ("_peft_loraga_grad", "eigens"):
        if hasattr(own, name):
            setattr(twin, name, getattr(own, name))
    if hasattr(twin, "_peft_loraga_grad") and weight_of(own) is not own.weight:
        twin._peft_loraga_grad = twin._peft_loraga_grad.t()
    alpha: Any = layer.scaling["default"] * (math.sqrt(r) if layer.use_rslora["default"] else r)
    config = _scheme_config(scheme, r=r, use_rslora=layer.use_rslora["default"])
    with quiet_libraries(), torch.no_grad():
        made: Any = Linear(twin, "default", config, r=r, lora_alpha=alpha)
        down, up = made.lora_A["default"].weight, made.lora_B["default"].weight
        a.copy_(torch.cat([down, down]) if doubled else down)
        b.copy_(torch.cat([up, -up], dim=1) if doubled else up)


def _scheme_config(scheme: str, **options: Any) -> LoraConfig:
    from peft import LoraConfig
    from peft.tuners.lora.config import CordaConfig, EvaConfig, LoraGAConfig

    more: dict[str, Any] = {
        "eva": {"eva_config": EvaConfig()},
        "corda": {"corda_config": CordaConfig()},
        "lora_ga": {"lora_ga_config": LoraGAConfig()},
    }.get(scheme, {})
    with quiet_libraries():
        return LoraConfig(task_type="CAUSAL_LM", init_lora_weights=scheme, **options, **more)  # type: ignore[arg-type]


@contextmanager
def _looked_at(
    model: PeftModel, layers: Mapping[str, Any], scheme: str, batches: Batches | None
) -> Iterator[None]:
    """In this context, the base's layers have what PEFT has found out from rows."""
    if scheme not in FROM_ROWS:
        yield
        return
    assert batches is not None
    from peft.tuners.lora.corda import preprocess_corda
    from peft.tuners.lora.loraga import preprocess_loraga

    base: PreTrainedModel = model.get_base_model()
    names = [f"{name}.base_layer" for name in layers]
    ranks = {f"{name}.base_layer": layer.r["default"] // 2 for name, layer in layers.items()}
    r = max(ranks.values())
    patterns = {re.escape(name): rank for name, rank in ranks.items() if rank != r}
    config = _scheme_config(scheme, r=r, target_modules=names, rank_pattern=patterns)
    try:
        with quiet_libraries(), model.disable_adapter():
            if scheme == "lora_ga":
                preprocess_loraga(base, config, lambda: _backwards(base, batches))
                base.eval()
            else:
                preprocess_corda(base, config, lambda: _forwards(base, batches))
        yield
    finally:
        for layer in layers.values():
            own = vars(layer.get_base_layer())
            for name in ("_peft_loraga_grad", "eigens", "corda_method", "rank"):
                own.pop(name, None)


def _backwards(model: Any, batches: Batches) -> None:
    for batch in batches():
        model(**batch, use_cache=False).loss.backward()


def _forwards(model: Any, batches: Batches) -> None:
    import torch

    with torch.no_grad():
        for batch in batches():  # CorDA takes one row at a time, without padding
            for row_L, mask_L in zip(batch["input_ids"], batch["attention_mask"], strict=True):
                model(input_ids=row_L[mask_L.bool()][None], use_cache=False)


def _limited_forward() -> Callable[[Any, Any], Any]:
    """A forward for EVA, which goes through the rows again until its directions are stable."""
    calls = iter(range(MOST_CALLS))

    def forward(model: Any, batch: Any) -> Any:
        if next(calls, None) is None:
            raise ValueError(f"its directions are not stable after {MOST_CALLS} batches")
        return model(**{name: t for name, t in batch.items() if name != "labels"}, use_cache=False)

    return forward


def _start_eva(model: PeftModel, batches: Batches) -> None:
    """EVA: directions in which a layer's inputs vary most; ranks move to where they vary more."""
    from peft.tuners.lora.config import EvaConfig
    from peft.tuners.lora.eva import initialize_lora_eva_weights

    config: Any = model.peft_config["default"]
    before = copy.deepcopy(config.target_modules)
    config.init_lora_weights, config.eva_config = "eva", EvaConfig()
    try:
        with quiet_libraries(hide_bars=True):
            initialize_lora_eva_weights(
                model, list(batches()), forward_fn=_limited_forward(), show_progress_bar=False
            )
    finally:
        config.init_lora_weights, config.eva_config = True, None
    if config.target_modules != before and not config.target_modules:
        raise ValueError("no layer is left")
