"""Speed up the LoRA step of one model, and undo it.

    report = speedup(model)      # any PEFT model or plain causal LM of transformers
    print(report)                # what was replaced, what was not, and why
    ...                          # train as before: lorita's loop, the HF Trainer, TRL's SFTTrainer
    unspeed(model)

Only the ``forward`` attributes of this instance's modules are set: parameters, names and files stay
the same. The result is compared with the model's own computation on a few rows (``self_check.py``);
where the numbers differ, the model's own forwards are kept.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import nn

from lorita.engine.activated import acting_from, activate
from lorita.engine.allocator import keep_few_products, keep_memory
from lorita.engine.autocast import without_autocast
from lorita.engine.causal_lm import body_of
from lorita.engine.given_model import speedable
from lorita.engine.kernels import native
from lorita.engine.kernels.gpu import has_liger
from lorita.engine.model_forwards import body_forward, causal_forward
from lorita.engine.own_numbers import short_windows
from lorita.engine.patch import mark, patch_of
from lorita.engine.replace import Replacements, replacements, use_int8
from lorita.engine.report import SpeedupReport
from lorita.engine.self_check import Reference, disagreement, reference

_OWN_ATTENTION = ("attention", "packing")
EVERYTHING = (*_OWN_ATTENTION, "mlp", "norm", "activation", "linear")
STAGES = ((), ("attention",), ("mlp",), ("attention", "mlp"), _OWN_ATTENTION, EVERYTHING[:-1])
"""What is given up, stage by stage, while the numbers differ."""


def speedup(
    model: nn.Module, *, base_precision: str | None = None, use_liger_kernel: bool = False
) -> SpeedupReport:
    """Replace what can be computed faster; a second call starts over.

    ``model`` is a PEFT model or a plain causal language model of transformers, before a trainer
    gets it; anything else is a ``UserError``. Calls under autocast are computed in its number
    format; weights in another one are converted once and kept.

    ``base_precision="int8"`` computes the products of the frozen layers in 8-bit integers
    (``kernels/int8.py``): faster, not exact, on a CPU only. ``use_liger_kernel`` takes norms and
    gated activations from the package liger-kernel, on a GPU only. ``ValueError`` if an option is
    unknown or not supported here.
    """
    lm = speedable(model)
    on_cpu = lm.get_input_embeddings().weight.device.type == "cpu"
    _check_options(base_precision, use_liger_kernel, on_cpu=on_cpu)
    unspeed(model)
    activate(lm)
    keep_few_products()
    kernels, keeps_memory = native.status(), keep_memory()
    with without_autocast(lm):
        found, given_up = _verified_replacements(lm, liger=use_liger_kernel)
    patch = found.patch
    int8 = use_int8(lm, patch) if base_precision == "int8" else 0
    body = body_of(lm)
    if body is not lm:
        patch.put(body, body_forward(lm, patch, body.forward))
    patch.put(lm, causal_forward(lm, patch, lm.forward))
    mark(lm, patch)
    left = given_up + found.left
    return SpeedupReport(kernels, keeps_memory, patch.rows, int8, found.replaced, left, patch.calls)


def unspeed(model: nn.Module) -> None:
    """Restore every module's own forward. Does nothing to a model that is not sped up.

    ``UserError`` for anything that ``speedup`` does not take.
    """
    lm = speedable(model, "unspeed")
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
    with acting_from(lm), short_windows(lm) as shortened:
        try:
            expected = reference(lm)
        except Exception as error:  # an unknown model may fail in any way on unexpected input
            said = str(error).partition("\n")[0]
            given_up[f"whole fast path (the model cannot be checked: {said})"] += 1
            return Replacements(without=EVERYTHING), given_up
        found = _first_that_agrees(lm, expected, given_up, liger=liger)
    if shortened:  # again, with the real windows
        rows, without = found.patch.rows, found.without
        found.patch.undo()
        found = replacements(lm, without, liger=liger)
        found.patch.rows = rows
    found.patch.has_own_loss = expected.has_own_loss
    return found, given_up


def _first_that_agrees(
    lm: Any, expected: Reference, given_up: Counter[str], *, liger: bool
) -> Replacements:
    for without in STAGES:
        found = replacements(lm, without, liger=liger)
        wrong = disagreement(lm, found.patch, expected)
        if wrong is None:
            return found
        found.patch.undo()
        what = f"fast path without {', '.join(without)}" if without else "whole fast path"
        given_up[f"{what} (checked on this model: {wrong})"] += 1
    nothing = Replacements(without=EVERYTHING)
    if disagreement(lm, nothing.patch, expected) is not None:
        nothing.patch.rows = "alone"  # the model itself gives padded rows other numbers
    return nothing
