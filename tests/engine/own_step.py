"""The fast step of a model against the model's own: each row alone, and rows padded."""

from __future__ import annotations

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from lorita.engine.packed_model import packed_loss
from lorita.engine.report import SpeedupReport
from lorita.engine.speedup import speedup
from tests.engine.steps import LENGTHS, gradients, padded, rows

NOT_FOR_PEFT = ("out_proj", "conv1d")
"""PEFT cannot adapt these in Mamba's kinds."""


def rows_on(model: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """``steps.rows()`` on the model's device."""
    device = next(model.parameters()).device
    ids, labels = rows()
    return ids.to(device), labels.to(device)


def reached_linears(model: PreTrainedModel) -> list[str]:
    """Names of plain linear layers that a row of text passes, without the output head."""
    called: set[str] = set()
    hooks = [
        module.register_forward_hook(lambda m, args, out, name=name: called.add(name))
        for name, module in model.named_modules()
        if type(module).__name__ in ("Linear", "Conv1D", "FalconLinear")
    ]
    with torch.no_grad():
        model(input_ids=rows_on(model)[0][None, :9], use_cache=False)
    for hook in hooks:
        hook.remove()
    head = model.get_output_embeddings()
    recurrent = any("mamba" in type(m).__name__.lower() for m in model.modules())
    recurrent |= "falcon_h1" in model.config.model_type
    modules = dict(model.named_modules())
    return [
        name
        for name in sorted(called)
        if modules[name] is not head
        and not name.startswith(("cls", "lm_head"))
        and not (recurrent and name.rpartition(".")[2] in NOT_FOR_PEFT)
    ]


def adapted(model: PreTrainedModel) -> nn.Module:
    """The model with an adapter on all of these, whose B is not zero, in training mode."""
    config = LoraConfig(r=3, lora_alpha=6, target_modules=reached_linears(model))
    tuned = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data = (torch.randn(parameter.shape, generator=generator) * 0.3).to(parameter)
    return tuned.train()


def loss_alone(model: nn.Module) -> torch.Tensor:
    """The summed loss of ``steps.rows()``, each computed by itself by the model's own forward."""
    ids, labels = rows_on(model)
    total = torch.zeros((), device=ids.device)
    for row, targets in zip(ids.split(LENGTHS), labels.split(LENGTHS), strict=True):
        logits = model(input_ids=row[None], use_cache=False).logits[0, :-1].float()
        total = total + functional.cross_entropy(logits, targets[1:], reduction="sum")
    return total


def loss_padded(model: nn.Module) -> torch.Tensor:
    """The same of the rows as a padded batch."""
    device = next(model.parameters()).device
    batch = {name: tensor.to(device) for name, tensor in padded().items()}
    labels = batch.pop("labels")
    logits = model(**batch, use_cache=False).logits[:, :-1].flatten(0, 1).float()
    return functional.cross_entropy(logits, labels[:, 1:].flatten(), reduction="sum")


def difference(
    got: tuple[torch.Tensor, dict[str, torch.Tensor]],
    own: tuple[torch.Tensor, dict[str, torch.Tensor]],
) -> float:
    """The largest relative difference of the loss and of any parameter's gradient."""
    (loss, grads), (own_loss, own_grads) = got, own
    largest = max(float(gradient.norm()) for gradient in own_grads.values())
    apart = [float((loss - own_loss).abs() / own_loss.abs())]
    for name in {*grads, *own_grads}:
        ours, its = (g.get(name, torch.zeros_like(own_loss)) for g in (grads, own_grads))
        # Some gradients are zero but for rounding.
        apart.append(float((ours - its).norm()) / max(float(its.norm()), 2e-2 * largest))
    return max(apart)


def step(model: nn.Module, loss: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A loss and its gradients."""
    return loss.detach(), gradients(model, loss)  # type: ignore[arg-type]


def fast_step(
    model: nn.Module,
) -> tuple[tuple[torch.Tensor, dict[str, torch.Tensor]], SpeedupReport]:
    """The step of a model that is sped up for it, and what that did."""
    report = speedup(model)
    return step(model, packed_loss(model, *rows_on(model), LENGTHS)), report
