"""Adapters as other programs write them: used as PEFT uses them, or refused in one sentence."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from lorita import load
from lorita.cli import run as lorita
from lorita.engine.speedup import speedup
from lorita.errors import AdapterError, LoritaWarning
from lorita.export.merged.merge import merge
from lorita.inference.resolve import resolve
from lorita.models.load_adapter import load_adapter
from tests import tiny
from tests.command import refused, write

IDS = torch.tensor([[5, 30, 100, 200, 7, 9], [1, 2, 3, 4, 5, 6]])
TARGETS = ["q_proj", "v_proj", "down_proj"]
LAYERS = {"task_type": "CAUSAL_LM", "target_modules": TARGETS}
Config = Callable[[], peft.PeftConfig]


def plain_lora(**options: Any) -> peft.LoraConfig:
    return peft.LoraConfig(**{**LAYERS, "r": 2, **options})


KINDS: dict[str, Config] = {
    "embeddings": lambda: plain_lora(target_modules=["embed_tokens", "q_proj"]),
    "head": lambda: plain_lora(target_modules=["lm_head", "q_proj"]),
    "tied embeddings": lambda: plain_lora(
        target_modules=["embed_tokens"], ensure_weight_tying=True
    ),
    "whole embeddings": lambda: plain_lora(modules_to_save=["embed_tokens", "lm_head"]),
    "single tokens": lambda: plain_lora(trainable_token_indices=[3, 5]),
    "dora": lambda: plain_lora(use_dora=True),
    "rslora": lambda: plain_lora(use_rslora=True),
    "biases": lambda: plain_lora(bias="all"),
    "patterns": lambda: plain_lora(rank_pattern={"q_proj": 3}, alpha_pattern={"v_proj": 5}),
    "exclusions": lambda: plain_lora(target_modules="all-linear", exclude_modules=["q_proj"]),
    "some layers": lambda: plain_lora(layers_to_transform=[1]),
    "pissa": lambda: plain_lora(init_lora_weights="pissa"),
    "qalora": lambda: plain_lora(use_qalora=True, qalora_group_size=4),
    "adalora": lambda: peft.AdaLoraConfig(**LAYERS, init_r=4, target_r=2, total_step=10),
    "ia3": lambda: peft.IA3Config(**LAYERS, feedforward_modules=["down_proj"]),
    "loha": lambda: peft.LoHaConfig(**LAYERS, r=2),
    "lokr": lambda: peft.LoKrConfig(**LAYERS, r=2),
    "oft": lambda: peft.OFTConfig(**LAYERS, oft_block_size=4),
    "vera": lambda: peft.VeraConfig(**{**LAYERS, "target_modules": ["q_proj"]}, r=2),
    "tokens alone": lambda: peft.TrainableTokensConfig(
        task_type="CAUSAL_LM", target_modules=["embed_tokens"], token_indices=[3, 5]
    ),
}
ALONE = ("rslora", "patterns", "exclusions", "some layers")
"""Kinds that fit into a GGUF file of their own."""


def saved(folder: Path, base: Path, config: peft.PeftConfig, *, rows: int | None = None) -> Path:
    """An adapter with random values on every tensor, saved by PEFT itself."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base)
    if rows is not None:
        model.resize_token_embeddings(rows)
    model.name_or_path = str(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = peft.get_peft_model(model, config)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data += 0.2 * torch.randn_like(parameter)
        adapted.save_pretrained(folder)
    return folder


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def by_peft(base: PreTrainedModel, folder: Path) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return logits(peft.PeftModel.from_pretrained(base, folder))


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    write(path, json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("kind", KINDS)
def test_used_and_merged_as_peft_does(kind: str, llama: Path, tmp_path: Path) -> None:
    run = saved(tmp_path / "run", llama, KINDS[kind]())
    base = AutoModelForCausalLM.from_pretrained(llama)
    bare = logits(base)
    theirs = by_peft(base, run)
    tuned = load(run, dtype="float32")
    assert torch.allclose(logits(tuned.model), theirs, atol=1e-5)
    assert float((theirs - bare).abs().max()) > 1e-2
    speedup(tuned.model)
    assert torch.allclose(logits(tuned.model), theirs, atol=1e-4)
    made = merge(run, tmp_path / "merged")
    merged = logits(AutoModelForCausalLM.from_pretrained(made.path))
    assert torch.allclose(merged, theirs, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_as_a_gguf_file_of_its_own_or_refused(
    kind: str, llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = saved(tmp_path / "run", llama, KINDS[kind]())
    out = tmp_path / "adapter.gguf"
    if kind in ALONE:
        assert lorita(["export", "gguf", str(run), str(out)]) == 0
        return
    told = refused(capsys, "export", "gguf", run, out)
    assert "cannot" in told and "--merged" in told
    assert not out.exists()


REFUSED: dict[str, tuple[Config, str]] = {
    "prompt tuning": (
        lambda: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        "PROMPT_TUNING trains virtual tokens",
    ),
    "prefix tuning": (
        lambda: peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        "PREFIX_TUNING trains virtual tokens",
    ),
    "p-tuning": (
        lambda: peft.PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        "P_TUNING trains virtual tokens",
    ),
    "replicated layers": (
        lambda: plain_lora(layer_replication=[(0, 2), (1, 2)]),
        "layer_replication",
    ),
    "norms": (
        lambda: peft.LNTuningConfig(task_type="CAUSAL_LM", target_modules=["input_layernorm"]),
        "LN_TUNING is not a kind of adapter",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_by_every_command_in_one_sentence(
    kind: str, llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, said = REFUSED[kind]
    run = saved(tmp_path / "run", llama, config())
    out = tmp_path / "out"
    for command in (
        ("generate", run, "Hello"),
        ("chat", run),
        ("compare", run, "--prompt", "Hello"),
        ("merge", run, out),
        ("export", "gguf", run, out),
        ("export", "ollama", run, out),
        ("evaluate", run),
    ):
        assert said in refused(capsys, *command), command
    assert not out.exists()


def test_a_kind_that_is_newer(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = saved(tmp_path / "run", llama, plain_lora())
    edit(run, peft_type="NEWLORA")
    assert "NEWLORA is not a kind" in refused(capsys, "generate", run, "Hello")
    edit(run, peft_type=None)
    assert "has no peft_type" in refused(capsys, "generate", run, "Hello")
    write(run / "adapter_config.json", "{")
    assert "not valid JSON" in refused(capsys, "generate", run, "Hello")


def test_options_of_a_newer_peft(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = saved(tmp_path / "run", llama, plain_lora())
    edit(run, use_newlora=False, newlora_config=None, newlora_list=[])
    with warnings.catch_warnings():
        warnings.simplefilter("error", LoritaWarning)
        assert resolve(run)
    edit(run, use_newlora=True, newlora_scale=2.5)
    with pytest.warns(LoritaWarning, match=r"newlora_scale = 2\.5, use_newlora = True"):
        resolve(run)
    assert lorita(["generate", str(run), "Hello", "--max-new-tokens", "2"]) == 0
    assert "Warning: " in (told := capsys.readouterr().err)
    assert "does not know newlora_scale" in told


def missing(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[next(iter(tensors))]


def unexpected(tensors: dict[str, torch.Tensor]) -> None:
    tensors["base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight"] = torch.ones(2, 32)


def wrong_shape(tensors: dict[str, torch.Tensor]) -> None:
    name = next(iter(tensors))
    tensors[name] = torch.ones(tensors[name].shape[0], 7)


def not_a_number(tensors: dict[str, torch.Tensor]) -> None:
    tensors[sorted(tensors)[2]].view(-1)[0] = float("nan")


def infinite(tensors: dict[str, torch.Tensor]) -> None:
    tensors[sorted(tensors)[1]].view(-1)[0] = float("inf")


@pytest.mark.parametrize(
    "change,said",
    [
        (missing, "is missing from the file"),
        (unexpected, "does not exist in the model"),
        (wrong_shape, "size mismatch"),
        (not_a_number, "holds NaN"),
        (infinite, "holds infinity"),
    ],
)
@pytest.mark.parametrize("kind", ["dora", "whole embeddings", "loha"])
def test_tensors_that_are_wrong_are_named(
    change: Callable[[dict[str, torch.Tensor]], None],
    said: str,
    kind: str,
    llama: Path,
    tmp_path: Path,
) -> None:
    run = saved(tmp_path / "run", llama, KINDS[kind]())
    tensors = load_file(run / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, run / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AdapterError, match=said):
        load(run, dtype="float32")


@pytest.mark.parametrize(
    "options",
    [
        {"modules_to_save": ["embed_tokens", "lm_head"]},
        {"modules_to_save": ["embed_tokens"]},
        {},  # PEFT saves the embeddings of a resized model by itself
        {"trainable_token_indices": [260, 261]},
    ],
    ids=["whole", "input", "resized", "tokens"],
)
def test_added_tokens(options: dict[str, Any], llama: Path, tmp_path: Path) -> None:
    tokenizer = tiny.make_tokenizer()
    tokenizer.add_tokens(["<think>", "</think>", "<call>", "</call>", "<end>"])
    run = saved(tmp_path / "run", llama, plain_lora(**options), rows=len(tokenizer))
    tokenizer.save_pretrained(run)
    base = AutoModelForCausalLM.from_pretrained(llama)
    bare = base.get_input_embeddings().weight.shape[0]
    base.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    theirs = by_peft(base, run)
    tuned = load(run, dtype="float32")
    assert len(tuned.tokenizer) == len(tokenizer) > bare
    assert torch.allclose(logits(tuned.model), theirs, atol=1e-5)
    from lorita.inference.options import GenerationOptions

    few = GenerationOptions(max_new_tokens=3)
    asked = ["<think>Hello", "bread"]
    assert len(tuned.answer(asked, few, with_adapter=False)) == 2
    assert torch.allclose(logits(tuned.model), theirs, atol=1e-5)
    made = merge(run, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(made.path)
    assert merged.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert torch.allclose(logits(merged), theirs, atol=1e-4)


TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant] "


@pytest.mark.parametrize("form", ["config", "file", "only the file"])
def test_a_chat_adapter_is_asked_through_its_own_template(
    form: str, llama: Path, tmp_path: Path
) -> None:
    run = saved(tmp_path / "run", llama, plain_lora())
    tokenizer = tiny.make_tokenizer()
    if form == "config":
        tokenizer.chat_template = TEMPLATE
    if form != "only the file":
        tokenizer.save_pretrained(run)
    if form != "config":
        write(run / "chat_template.jinja", TEMPLATE)
    resolved = resolve(run)
    own = resolved.tokenizer()
    asked = own.decode(resolved.prompt_format(own).ids(own, "Tea?"))
    assert asked == "[user] Tea?\n[assistant] "


def test_without_a_template_a_prompt_is_text(llama: Path, tmp_path: Path) -> None:
    run = saved(tmp_path / "run", llama, plain_lora())
    resolved = resolve(run)
    own = resolved.tokenizer()
    assert own.decode(resolved.prompt_format(own).ids(own, "Tea?")) == "Tea?"


@pytest.mark.parametrize(
    "name,said",
    [
        ("/root/models/Llama-3", "--base MODEL"),
        ("./output/base", "--base MODEL"),
        ("someone/base-model", "--base MODEL"),
        ("unsloth/llama-3-8b-bnb-4bit", "--base unsloth/llama-3-8b"),
        ("TheBloke/Llama-2-7B-GPTQ", "--base Llama-2-7B"),
    ],
)
def test_a_base_that_is_gone(
    name: str, said: str, llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = saved(tmp_path / "run", llama, plain_lora())
    edit(run, base_model_name_or_path=name)
    for command in (("generate", run, "Hello"), ("merge", run, tmp_path / "out")):
        told = refused(capsys, *command)
        assert "its base cannot be used" in told and said in told
    assert load_adapter(AutoModelForCausalLM.from_pretrained(llama), run)
    short = ["--max-new-tokens", "2"]
    assert lorita(["generate", str(run), "Hello", "--base", str(llama), *short]) == 0
