"""Speed up the LoRA step of one model, and undo it.

    report = speedup(model)      # any PEFT model or plain causal LM of transformers
    print(report)                # what was replaced, what was not, and why
    ...                          # train as before: lorita's loop, the HF Trainer, TRL's SFTTrainer
    unspeed(model)

Only the ``forward`` attributes of this instance's modules are set: parameters, names and files stay
the same. The result is compared with the model's own computation on a few tokens; where the numbers
differ, the model's own forwards are kept.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from lorita.engine.allocator import keep_few_products, keep_memory
from lorita.engine.causal_lm import causal_lm
from lorita.engine.kernels import native
from lorita.engine.kernels.gpu import has_liger
from lorita.engine.kernels.row_layout import RowLayout
from lorita.engine.model_forwards import body_forward, causal_forward
from lorita.engine.packed_model import hidden_states
from lorita.engine.patch import Patch, mark, patch_of
from lorita.engine.replace import Replacements, replacements, use_int8
from lorita.engine.report import SpeedupReport

_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 2e-2}
_STAGES = ((), ("attention",), ("attention", "mlp", "norm", "activation"))
"""What is given up, stage by stage, while the numbers differ."""


def speedup(
    model: nn.Module, *, base_precision: str | None = None, use_liger_kernel: bool = False
) -> SpeedupReport:
    """Replace what can be computed faster; a second call starts over.

    ``base_precision="int8"`` computes the products of the frozen layers in 8-bit integers
    (``kernels/int8.py``): faster, not exact, on a CPU only. ``use_liger_kernel`` takes norms and
    gated activations from the package liger-kernel, on a GPU only. ``ValueError`` if an option is
    unknown or not supported here.
    """
    lm = causal_lm(model)
    on_cpu = lm.get_input_embeddings().weight.device.type == "cpu"
    _check_options(base_precision, use_liger_kernel, on_cpu=on_cpu)
    unspeed(model)
    keep_few_products()
    kernels, keeps_memory = native.status(), keep_memory()
    found, given_up = _verified_replacements(lm, liger=use_liger_kernel)
    patch = found.patch
    int8 = use_int8(lm, patch) if base_precision == "int8" else 0
    patch.put(lm.base_model, body_forward(lm, patch, lm.base_model.forward))
    patch.put(lm, causal_forward(lm, patch, lm.forward))
    mark(lm, patch)
    left = given_up + found.left
    return SpeedupReport(kernels, keeps_memory, patch.packs_rows, int8, found.replaced, left)


def unspeed(model: nn.Module) -> None:
    """Restore every module's own forward. Does nothing to a model that is not sped up."""
    lm = causal_lm(model)
    patch = patch_of(lm)
    if patch is not None:
        patch.undo()
        mark(lm, None)


def _check_options(base_precision: str | None, use_liger_kernel: bool, *, on_cpu: bool) -> None:
    if base_precision not in (None, "int8"):
        raise ValueError(f"base_precision = {base_precision!r}: should be None or 'int8'")
    if base_precision == "int8" and not on_cpu:
        raise ValueError("base_precision = 'int8' is for models on a CPU")
    if use_liger_kernel and (on_cpu or not has_liger()):
        what = "a GPU" if on_cpu else "the package: pip install liger-kernel"
        raise ValueError(f"use_liger_kernel needs {what}")


def _verified_replacements(lm: Any, *, liger: bool) -> tuple[Replacements, Counter[str]]:
    """The replacements of the first stage whose numbers agree, and the stages given up."""
    given_up: Counter[str] = Counter()
    for without in _STAGES:
        found = replacements(lm, without, liger=liger)
        wrong = _disagreement(lm, found.patch)
        if wrong is None:
            return found, given_up
        found.patch.undo()
        what = f"fast path without {', '.join(without)}" if without else "whole fast path"
        given_up[f"{what} (checked on this model: {wrong})"] += 1
    return Replacements(), given_up


def _disagreement(lm: Any, patch: Patch) -> str | None:
    """How the fast hidden states differ from the model's own on two short rows; None if close."""
    vocab = lm.get_input_embeddings().weight.shape[0]
    device = lm.get_input_embeddings().weight.device
    ids = torch.arange(1, 12, device=device) * 7919 % vocab
    rows = RowLayout((7, 4))
    training = {module: module.training for module in lm.modules()}
    lm.eval()
    try:
        with torch.no_grad():
            fast = hidden_states(lm, patch, ids, rows)
            with patch.suspended():
                own = torch.cat([_own_hidden(lm, ids[s : s + n]) for s, n in rows.spans])
    except Exception as error:  # an unknown model may fail in any way on unexpected input
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    finally:
        for module, mode in training.items():
            module.training = mode
    distance = float((fast.float() - own.float()).norm() / own.float().norm().clamp_min(1e-9))
    if distance <= _TOLERANCE.get(own.dtype, 1e-2):
        return None
    return f"hidden states differ by {distance:.1e}"


def _own_hidden(lm: Any, ids_T: Tensor) -> Tensor:
    out: Tensor = lm.base_model(input_ids=ids_T[None], use_cache=False)[0][0]
    return out
