"""Whether a model is the base on which an adapter was trained."""

from __future__ import annotations

from typing import Any

_SAMPLE = 64


def fingerprint(model: Any) -> dict[str, Any]:
    """What distinguishes one base model from another: its sizes and a sample of its weights.

    The sample survives rounding and quantisation, as the same model is used in many formats.
    """
    import torch

    config = model.config
    sizes = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads")
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "lora_" not in n][:2]
    values = [p.detach().reshape(-1)[:: max(1, p.numel() // _SAMPLE)][:_SAMPLE] for p in matrices]
    sample = torch.cat([v.float().cpu() for v in values]).tolist() if values else []
    return {
        "config": {name: getattr(config, name, None) for name in sizes},
        "sample": [float(f"{value:.3g}") for value in sample],
    }


def fingerprint_problems(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """The differences between two fingerprints; empty if they are of the same model."""
    import torch

    problems = [
        f"{name} is {found['config'].get(name)}, expected {value}"
        for name, value in expected["config"].items()
        if found["config"].get(name) != value
    ]
    if problems or len(expected["sample"]) != len(found["sample"]):
        return problems or ["its first weights have different shapes"]
    a, b = torch.tensor(expected["sample"]), torch.tensor(found["sample"])
    alike = float(torch.nn.functional.cosine_similarity(a, b, dim=0))
    return [] if alike > 0.9 else [f"its first weights are different (similarity {alike:.2f})"]
