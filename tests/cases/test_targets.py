"""Every layer that is adapted learns from text, in every kind of model; the others are named."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from lorita.cli import run as lorita
from lorita.errors import AdapterError
from lorita.export.merged.merge import merge
from lorita.models.adapter import attach, plan_adapter, save_adapter, trainable_parameters
from lorita.models.load_adapter import load_adapter
from lorita.models.reach import text_reach
from lorita.models.targets import find_layers
from tests.command import refused
from tests.zoo import build, config_of, save

IDS = torch.tensor([[5, 30, 100, 200, 7, 9], [1, 2, 3, 4, 5, 6]])
LEFT_OUT = {
    "mamba": {"mixer.out_proj", "mixer.dt_proj"},
    "mamba2": {"mixer.out_proj"},
    "falcon_mamba": {"mixer.out_proj", "mixer.dt_proj"},
    "jamba": {"mamba.dt_proj"},
    "nemotron_h": {"mixer.out_proj"},
    "falcon_h1": {"mamba.out_proj"},
    "phimoe": {"mlp.router"},
    "llama4": {"feed_forward.router"},
    "qwen2_moe": {"mlp.shared_expert_gate"},
    "gemma3": {
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj",
        "mlp.fc1", "mlp.fc2", "attention.out_proj",
    },
    "gemma3n_text": {"altup.correction_coefs"},
}  # fmt: skip
"""The last two parts of their names; the other kinds leave nothing out."""
EXPERTS = ("mixtral", "qwen3_moe", "deepseek_v3", "olmoe")
"""Those whose experts PEFT adapts."""


KINDS = [
    "mamba", "mamba2", "falcon_mamba", "jamba", "nemotron_h", "falcon_h1", "granitemoehybrid",
    "phimoe", "llama4", "mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "deepseek_v3", "gpt_oss",
    "gemma3", "gemma3n_text", "zamba2", "recurrent_gemma", "rwkv", "opt",
]  # fmt: skip
"""Models with layers that do not learn from text, or that PEFT does not adapt, and plain ones."""


def adapted(model: peft.PeftModel) -> set[str]:
    names = (n for n, m in model.get_base_model().named_modules() if isinstance(m, LoraLayer))
    return {name.replace(".base_layer", "") for name in names}


def random_adapter(model: PreTrainedModel, **options: Any) -> peft.PeftModel:
    config, _ = plan_adapter(model, {"r": 2, **options})
    peft_model = attach(model, config, seed=0)
    torch.manual_seed(1)
    for parameter in trainable_parameters(peft_model).values():
        parameter.data.normal_(std=0.2)
    return peft_model


def shapes(folder: Path) -> dict[str, torch.Size]:
    return {n: t.shape for n, t in load_file(folder / "model.safetensors").items()}


@pytest.mark.parametrize("name", KINDS)
def test_all_linear_is_every_layer_that_learns(name: str) -> None:
    model = build(name)
    layers = find_layers(model)
    assert {".".join(n.split(".")[-2:]) for n in layers.left_out} == LEFT_OUT.get(name, set())
    on_meta = AutoModelForCausalLM.from_config(model.config).to("meta").requires_grad_(False)
    planned, notes = plan_adapter(on_meta, {"r": 2})
    assert (planned, notes) == plan_adapter(model, {"r": 2})
    peft_model = random_adapter(model)
    assert layers.usable.keys() <= adapted(peft_model)
    assert not layers.left_out.keys() & adapted(peft_model)
    peft_model.train()
    peft_model(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
    idle = [
        name
        for name, parameter in trainable_parameters(peft_model).items()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert not idle


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_is_said(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config_of(name).save_pretrained(tmp_path)
    for command in ("plan", "targets"):
        assert lorita([command, str(tmp_path)]) == 0
        said = capsys.readouterr().out
        if name == "gemma3":  # its tower is not loaded at all
            assert command != "plan" or "without model.vision_tower" in said
            continue
        assert "Not adapted: " in said
        assert all(re.search(rf"\*\.{place}\b", said) for place in LEFT_OUT[name])


@pytest.mark.parametrize("name", ["phimoe", "gpt_oss", "qwen2_moe", "granitemoehybrid", "jamba"])
def test_experts_that_stay_frozen_are_said(name: str) -> None:
    _, notes = plan_adapter(build(name), {"r": 2})
    assert any("Not adapted: the experts, " in note for note in notes)


@pytest.mark.parametrize("name", EXPERTS)
def test_experts_that_are_adapted_are_listed(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config_of(name).save_pretrained(tmp_path)
    assert lorita(["plan", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "experts.down_proj, experts.gate_up_proj" in said
    assert re.search(r"Not adapted: \d routers? \(model\.layers\.\*\.mlp\.gate\.weight\)", said)
    # PEFT cannot adapt them with dropout, which is said, and no layer gets lost in silence.
    assert lorita(["plan", str(tmp_path), "--lora-dropout", "0.1"]) == 0
    said = capsys.readouterr().out
    assert "because PEFT cannot do it with lora_dropout: " in said
    assert "Experts are adapted" not in said


@pytest.mark.parametrize("layers", [[0], [1]])
@pytest.mark.parametrize("name", [*EXPERTS, "mamba", "gemma3"])
def test_only_the_chosen_layers(name: str, layers: list[int]) -> None:
    places = adapted(random_adapter(build(name), layers_to_transform=layers))
    assert places
    assert all(re.search(r"layers\.(\d+)", place)[1] == str(layers[0]) for place in places)


@pytest.mark.parametrize("name", [*EXPERTS, "qwen2_moe", "mamba", "gemma3", "zamba2", "rwkv"])
def test_saved_loaded_and_merged(name: str, tmp_path: Path) -> None:
    base = save(name, tmp_path / "base")

    def fresh() -> PreTrainedModel:
        model = AutoModelForCausalLM.from_pretrained(base).eval()
        model.name_or_path = str(base)
        return model

    def logits(model: torch.nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return model.eval()(input_ids=IDS, use_cache=False).logits

    trained = random_adapter(fresh())
    run = tmp_path / "run"
    run.mkdir()
    save_adapter(trained, run)
    ours = logits(trained)
    assert torch.allclose(ours, logits(peft.PeftModel.from_pretrained(fresh(), run)), atol=1e-5)
    assert torch.allclose(ours, logits(load_adapter(fresh(), run)), atol=1e-5)
    assert float((ours - logits(fresh())).abs().max()) > 1e-3
    made = merge(run, tmp_path / "merged")
    # Other programs look for the names of the base's own files: one matrix for each expert.
    assert shapes(made.path) == shapes(base)
    merged = AutoModelForCausalLM.from_pretrained(made.path)
    assert torch.allclose(ours, logits(merged), atol=1e-3)


@pytest.mark.parametrize(
    "name,targets,said",
    [
        ("gemma3", ["fc1"], "'fc1' would learn nothing: model.vision_tower"),
        ("gemma3", ["q_proj", "fc2", "fc1"], "'fc2' would learn nothing"),
        ("gemma3", r".*vision_tower.*\.(q|k|v)_proj", "not reached by text in training"),
        ("mamba", ["dt_proj"], "not reached by text in training"),
        ("mamba", ["out_proj"], "PEFT cannot adapt backbone.layers.0.mixer.out_proj"),
        ("nemotron_h", ["q_proj", "out_proj"], "PEFT cannot adapt"),
        ("phimoe", ["router"], "whose output is not that of a linear layer"),
        ("llama4", ["router"], "whose output is not that of a linear layer"),
    ],
)
def test_a_target_that_would_learn_nothing(name: str, targets: list[str] | str, said: str) -> None:
    with pytest.raises(AdapterError, match=re.escape(said)):
        plan_adapter(build(name), {"target_modules": targets})


def test_a_target_in_tower_and_text_is_the_text() -> None:
    peft_model = random_adapter(build("gemma3"), target_modules=["q_proj"])
    assert adapted(peft_model) == {
        f"model.language_model.layers.{i}.self_attn.q_proj" for i in range(2)
    }


def test_exclusions_of_ones_own_stay() -> None:
    for excluded in (["k_proj", "mlp.up_proj"], r".*(k_proj|up_proj)"):
        places = adapted(random_adapter(build("gemma3"), exclude_modules=excluded))
        assert places and all("language_model" in place for place in places)
        assert {p.rpartition(".")[2] for p in places} == {
            "q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"
        }  # fmt: skip


def test_a_router_can_be_named() -> None:
    places = adapted(random_adapter(build("qwen2_moe"), target_modules=["shared_expert_gate"]))
    assert places == {f"model.layers.{i}.mlp.shared_expert_gate" for i in range(2)}


def test_a_whole_module_that_text_does_not_reach() -> None:
    with pytest.raises(AdapterError, match="modules_to_save: text does not reach"):
        plan_adapter(build("gemma3"), {"modules_to_save": ["multi_modal_projector"]})
    assert plan_adapter(build("gemma3"), {"modules_to_save": ["lm_head", "norm"]})


def test_asking_changes_nothing() -> None:
    for name in ("gemma3", "phimoe", "mamba"):
        model = build(name)
        before = {n: p.clone() for n, p in model.state_dict().items()}
        state = torch.random.get_rng_state()
        assert text_reach(model, [n for n, _ in model.named_modules() if n]) is not None
        assert torch.equal(state, torch.random.get_rng_state())
        assert not any(module.training or module._forward_hooks for module in model.modules())
        assert all(torch.equal(before[n], p) for n, p in model.state_dict().items())


def older_names(folder: Path, changes: dict[str, str]) -> None:
    """The adapter as transformers 4 named its modules."""
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    for new, old in changes.items():
        tensors = {name.replace(new, old): tensor for name, tensor in tensors.items()}
    save_file(tensors, path, metadata={"format": "pt"})


def test_names_of_transformers_4_for_image_text_models(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    trained = random_adapter(build("gemma3"))
    save_adapter(trained, run)
    older_names(run, {"model.model.language_model.layers": "model.language_model.model.layers"})
    ours = load_adapter(build("gemma3"), run)
    with torch.no_grad():
        assert torch.equal(trained.eval()(input_ids=IDS).logits, ours.eval()(input_ids=IDS).logits)


@pytest.mark.parametrize(
    "name,block,parts",
    [
        ("mixtral", "block_sparse_moe", ("w1", "w3", "w2")),
        ("qwen3_moe", "mlp", ("gate_proj", "up_proj", "down_proj")),
        ("olmoe", "mlp", ("gate_proj", "up_proj", "down_proj")),
    ],
)
def test_names_of_transformers_4_for_experts(
    name: str, block: str, parts: tuple[str, ...], tmp_path: Path
) -> None:
    """One pair of matrices for each expert, which PEFT joins."""
    model = build(name)
    experts = model.get_submodule("model.layers.1.mlp.experts")
    inner, outer = experts.down_proj.shape[2], experts.down_proj.shape[1]
    torch.manual_seed(2)
    tensors = {}
    for layer in range(2):
        for expert in range(4):
            for part in parts:
                sizes = (inner, outer) if part == parts[2] else (outer, inner)
                place = f"base_model.model.model.layers.{layer}.{block}.experts.{expert}.{part}"
                tensors[f"{place}.lora_A.weight"] = 0.3 * torch.randn(2, sizes[0])
                tensors[f"{place}.lora_B.weight"] = 0.3 * torch.randn(sizes[1], 2)
    run = tmp_path / "run"
    run.mkdir()
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=list(parts))
    config.save_pretrained(run)
    save_file(tensors, run / "adapter_model.safetensors", metadata={"format": "pt"})
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bare = build(name)(input_ids=IDS).logits
        theirs = peft.PeftModel.from_pretrained(build(name), run).eval()(input_ids=IDS).logits
        ours = load_adapter(build(name), run).eval()(input_ids=IDS).logits
    assert torch.equal(ours, theirs)
    assert float((ours - bare).abs().max()) > 1e-3


def test_an_image_text_model_without_a_text_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import transformers

    for kind in ("ChameleonConfig", "IdeficsConfig"):
        getattr(transformers, kind)().save_pretrained(tmp_path / kind)
        assert "an image-text model" in refused(capsys, "plan", tmp_path / kind)


@pytest.mark.parametrize("name", ["granitemoe", "qwen3_5_moe_text", "gpt_oss", "qwen3_moe"])
def test_experts_named_by_their_parameters(name: str, tmp_path: Path) -> None:
    """In every kind of model, also where all-linear leaves them out and says so."""
    targets = ["q_proj", "experts.gate_up_proj", "experts.down_proj"]
    trained = random_adapter(build(name), target_modules=targets)
    names = {n.partition(".lora_")[0] for n, p in trained.named_parameters() if p.requires_grad}
    assert any(".experts" in name for name in names)
    save_adapter(trained, tmp_path)
    theirs = peft.PeftModel.from_pretrained(build(name), tmp_path)
    with torch.no_grad():
        expected = trained.eval()(input_ids=IDS).logits
        assert torch.equal(
            load_adapter(build(name), tmp_path).eval()(input_ids=IDS).logits, expected
        )
        assert torch.equal(theirs.eval()(input_ids=IDS).logits, expected)
    with pytest.raises(AdapterError, match=r"cannot adapt experts.* with lora_dropout"):
        plan_adapter(build(name), {"target_modules": targets, "lora_dropout": 0.1})


@pytest.mark.parametrize("targets", ["all-linear", ["gate_proj", "up_proj", "down_proj"]])
def test_experts_are_not_left_out_in_silence(targets: str | list[str]) -> None:
    """Names of shared experts mean those alone where PEFT does not know the others."""
    said = " ".join(plan_adapter(build("qwen3_5_moe_text"), {"target_modules": targets})[1])
    assert "Not adapted: the experts, 50%" in said
    assert "--target-modules: experts.down_proj,experts.gate_up_proj" in said
