"""Make one model's LoRA step fast, and undo it.

    report = speedup(model)      # any PEFT model, or plain causal LM, of transformers
    print(report)                # what was replaced, what was left and why
    ...                          # train as before: lorita's loop, the HF Trainer, TRL's SFTTrainer
    unspeed(model)

Only ``forward`` attributes of this instance's modules are set: parameters, names and files stay as
they are. What was recognised is checked against the model's own computation on a few tokens; what
does not agree is left alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lorita.engine.allocator import keep_few_products, keep_memory
from lorita.engine.frozen_layers import BottomCache
from lorita.engine.kernels import native
from lorita.engine.kernels.gpu import has_liger
from lorita.engine.kernels.row_layout import RowLayout
from lorita.engine.packed_model import (
    body_forward,
    causal_forward,
    hidden_states,
    rows_loss,
    target_states,
)
from lorita.engine.replace import Replaced, replacements, use_int8
from lorita.engine.report import SpeedupReport

MARK = "_lorita_replaced"
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 2e-2}
_STAGES = ((), ("attention",), ("attention", "mlp", "norm", "activation"))
"""What is given up, one after the other, when the numbers do not agree."""


def causal_lm(model: nn.Module) -> Any:
    """The transformers model under PEFT's wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def speedup(
    model: nn.Module, *, base_precision: str | None = None, use_liger_kernel: bool = False
) -> SpeedupReport:
    """Replace what can be computed faster (see the module's text); twice is doing it anew.

    ``base_precision="int8"`` computes the products of the frozen layers in 8-bit whole numbers
    (``int8.py``): faster, not exact, on a CPU only. ``use_liger_kernel`` takes norms and gated
    activations from the package liger-kernel, on a GPU only. ``ValueError`` where that is not so.
    """
    lm = causal_lm(model)
    on_cpu = lm.get_input_embeddings().weight.device.type == "cpu"
    if base_precision not in (None, "int8"):
        raise ValueError(f"base_precision = {base_precision!r}: should be None or 'int8'")
    if base_precision == "int8" and not on_cpu:
        raise ValueError("base_precision = 'int8' is for models on a CPU")
    if use_liger_kernel and (on_cpu or not has_liger()):
        what = "a GPU" if on_cpu else "the package: pip install liger-kernel"
        raise ValueError(f"use_liger_kernel needs {what}")
    unspeed(model)
    keep_few_products()
    report = SpeedupReport(kernels=native.status(), keeps_memory=keep_memory())
    for without in _STAGES:
        replaced = replacements(lm, without, report, liger=use_liger_kernel)
        wrong = _disagreement(lm, replaced)
        if wrong is None:
            break
        replaced.undo()
        report.give_up(without, wrong)
        replaced = Replaced()
    if base_precision == "int8":
        use_int8(lm, replaced, report)
    report.packs_rows = replaced.packs_rows
    replaced.put(lm.base_model, body_forward(lm, replaced, lm.base_model.forward))
    replaced.put(lm, causal_forward(lm, replaced, lm.forward))
    setattr(lm, MARK, replaced)
    return report


def unspeed(model: nn.Module) -> None:
    """Give every module its own forward back. Nothing happens to a model that was not sped up."""
    lm = causal_lm(model)
    if getattr(lm, MARK, None) is not None:
        getattr(lm, MARK).undo()
        delattr(lm, MARK)


def is_sped_up(model: nn.Module) -> bool:
    return getattr(causal_lm(model), MARK, None) is not None


def packed_loss(
    model: nn.Module,
    input_ids_T: Tensor,
    labels_T: Tensor,
    row_lengths: Sequence[int],
    *,
    bottom: BottomCache | None = None,
    row_ids: Sequence[Hashable] = (),
) -> Tensor:
    """The summed loss (nats, float32) of rows laid end to end under a sped-up model.

    ``labels_T`` is aligned with ``input_ids_T``, -100 where there is no target; a token is
    predicted from the tokens before it in the same row. Divided by the number of targets it is the
    mean. With ``bottom`` (``bottom.bottom_cache``) and ``row_ids``, layers below the first adapted
    one are computed once a row.
    """
    lm = causal_lm(model)
    replaced: Replaced | None = getattr(lm, MARK, None)
    if replaced is None:
        raise ValueError("packed_loss needs a model that speedup() was called on")
    layout = RowLayout(tuple(row_lengths))
    kept = (bottom, row_ids) if bottom is not None and lm.training else None
    return rows_loss(lm, replaced, input_ids_T, labels_T, layout, kept)


def packed_targets(
    model: nn.Module, input_ids_T: Tensor, labels_T: Tensor, row_lengths: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Hidden states [N, D] at the targets of rows laid end to end, and the targets [N].

    For a sped-up model; arguments as in ``packed_loss``.
    """
    lm = causal_lm(model)
    replaced: Replaced | None = getattr(lm, MARK, None)
    if replaced is None:
        raise ValueError("packed_targets needs a model that speedup() was called on")
    return target_states(lm, replaced, input_ids_T, labels_T, RowLayout(tuple(row_lengths)))


def _disagreement(lm: Any, replaced: Replaced) -> str | None:
    """How far the fast hidden states are from the model's own on two short rows; None if close."""
    vocab = lm.get_input_embeddings().weight.shape[0]
    device = lm.get_input_embeddings().weight.device
    ids = torch.arange(1, 12, device=device) * 7919 % vocab
    rows = RowLayout((7, 4))
    training = {module: module.training for module in lm.modules()}
    lm.eval()
    try:
        with torch.no_grad():
            fast = hidden_states(lm, replaced, ids, rows)
            with replaced.suspended():
                own = torch.cat([_own_hidden(lm, ids[s : s + n]) for s, n in rows.spans])
    except Exception as error:  # whatever an unknown model does with what it did not expect
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
