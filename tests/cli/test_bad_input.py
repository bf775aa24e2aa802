"""Each mistake gets one message: what, where, and what to do. Exit code 2, nothing written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import BertConfig, T5Config

from lorita.cli import run as lorita
from lorita.storage.manifest import RUN, Manifest
from tests import tiny
from tests.command import refused, write

Said = str | list[str]


# --- the base model -------------------------------------------------------------------------


def config_folder(config: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        config.save_pretrained(folder)  # type: ignore[attr-defined]
        return folder

    return make


def cut_gguf(folder: Path) -> Path:
    """A real GGUF file of one tensor, without its last bytes."""
    import numpy as np
    from gguf import GGUFWriter

    writer = GGUFWriter(folder / "whole.gguf", "llama")
    writer.add_tensor("x", np.zeros((64, 64), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return write(folder / "cut.gguf", (folder / "whole.gguf").read_bytes()[:-1000])


MODELS: dict[str, tuple[Callable[[Path], Path], Said]] = {
    "no such path": (lambda p: p / "nothing", "no such file or folder"),
    "no config": (lambda p: p, "has no config.json"),
    "an adapter": (
        lambda p: write(p / "adapter_config.json", "{}").parent,
        "this is an adapter, not a base model",
    ),
    "broken config": (
        lambda p: write(p / "config.json", "{").parent,
        "config.json: not valid JSON",
    ),
    "unknown type": (
        lambda p: write(p / "config.json", '{"model_type": "parrot"}').parent,
        "parrot",
    ),
    "an encoder": (config_folder(BertConfig()), "bert is an encoder, not a causal"),
    "encoder-decoder": (config_folder(T5Config()), "t5 is an encoder-decoder model"),
    "no such gguf": (lambda p: p / "a.gguf", "file not found"),
    "not gguf": (lambda p: write(p / "a.gguf", "PK\3\4 something"), "not a GGUF file"),
    "cut gguf header": (lambda p: write(p / "a.gguf", b"GGUF\3\0\0"), "damaged or truncated"),
    "cut gguf": (cut_gguf, "truncated"),
}


@pytest.mark.parametrize("case", MODELS)
def test_model(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, said = MODELS[case]
    (tmp_path / "model").mkdir()
    assert said in refused(capsys, "plan", make(tmp_path / "model"))


def test_weights_missing(llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        write(tmp_path / name, (llama / name).read_bytes())
    assert "weights cannot be loaded" in refused(capsys, "generate", tmp_path, "x")


# --- the data: files are in test_bad_data.py ----------------------------------------------------


def test_template_without_its_column(
    llama: Path, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (
        "train",
        "--model",
        llama,
        "--data",
        prompts,
        "--text-template",
        "{role}: {prompt}",
    )
    assert "no column 'role'; the columns are act, prompt" in refused(capsys, *arguments)


def test_held_out_rows_of_another_kind(
    llama: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = write(tmp_path / "held.jsonl", '{"question": "a", "answer": "b"}\n')
    message = refused(capsys, "train", "--model", llama, "--data", prompts, "--eval-data", held)
    assert "held-out rows are read as prompt-completion" in message
    assert "held.jsonl" in message


def test_several_mistakes_are_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(
        capsys,
        *("train", "--model", tmp_path / "none", "--data", tmp_path / "none.csv"),
        *("--output-dir", write(tmp_path / "file", "x")),
    )
    assert "this is a file" in message
    assert "no such model folder" in message
    assert "none.csv: file not found" in message


# --- options --------------------------------------------------------------------------------

OPTIONS: dict[str, tuple[tuple[str, ...], Said]] = {
    "unknown flag": (("--lerning-rate", "1"), "--learning-rate"),
    "target that is not there": (
        ("--target-modules", "q_prj,v_proj"),
        ["no module is called 'q_prj' (did you mean q_proj?)", "down_proj, gate_proj, k_proj"],
    ),
    "regex that matches nothing": (("--target-modules", ".*query.*"), "matches no module"),
    "broken regex": (("--target-modules", "(q_proj"), "not a valid regex"),
    "rank 0": (("--r", "0"), "r = '0': input should be greater than or equal to 1"),
    "two at once": (("--r", "x", "--lora-dropout", "1"), ["r = 'x'", "lora_dropout = '1'"]),
    "word for a choice": (("--bias", "some"), "'none', 'all' or 'lora_only'"),
    "rate of zero": (("--learning-rate", "0"), "greater than 0"),
    "two ways to the text": (
        ("--text-field", "a", "--text-template", "{a}"),
        "text_field and text_template cannot be used together",
    ),
    "a text and a prompt": (
        ("--text-field", "prompt", "--completion-field", "act"),
        "text_field cannot be used together with prompt_field or completion_field",
    ),
    "prompt of another format": (
        ("--format", "alpaca", "--prompt-field", "act"),
        "cannot be used with format alpaca",
    ),
    "unknown format": (("--format", "parquet"), "'prompt-completion', 'messages'"),
    "columns without messages": (
        ("--format", "openai"),
        "messages needs a column of messages",
    ),
    "unknown template": (
        ("--prompt-field", "act", "--completion-field", "prompt", "--chat-template", "lama3"),
        ["no file or built-in template with this name (did you mean llama3?)", "zephyr, none"],
    ),
    "answers of a text": (
        ("--text-field", "prompt", "--train-on", "assistant"),
        "train_on assistant: the rows are plain text",
    ),
    "all rows dropped": (
        ("--text-field", "prompt", "--overflow", "drop", "--max-length", "3"),
        "every row is longer than max_length (3)",
    ),
    "word for overflow": (("--overflow", "wrap"), "'truncate', 'split' or 'drop'"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options(
    case: str, llama: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, said = OPTIONS[case]
    run = tmp_path / "run"
    base = ("train", "--model", llama, "--data", prompts, "--output-dir", run)
    message = refused(capsys, *base, *options)
    for part in [said] if isinstance(said, str) else said:
        assert part in message
    assert not run.exists()


YAML: dict[str, tuple[str, str]] = {
    "unknown key": ("lora_rnk: 3", "unknown option 'lora_rnk' (did you mean 'lora_rank'?)"),
    "key given twice": ("r: 3\nr: 4", "r is given twice"),
    "alias and name": ("r: 3\nlora_rank: 4", "r is given twice, once as 'lora_rank'"),
    "not YAML": ("r: [1", "not valid YAML"),
    "a list": ("- r", "expected lines of `option: value`"),
    "no model": ("r: 3", "model is missing"),
}


@pytest.mark.parametrize("case", YAML)
def test_settings_file(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, said = YAML[case]
    assert said in refused(capsys, "train", write(tmp_path / "run.yaml", text))


# --- the place for the results ----------------------------------------------------------------


def test_folder_that_holds_a_run(
    llama: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    kept = write(tmp_path / "run/lorita.json", "{}")
    Manifest(RUN, frozenset({"lorita.json"})).save(tmp_path / "run")
    arguments = ("train", "--model", llama, "--data", prompts, "--output-dir", tmp_path / "run")
    assert "--overwrite" in refused(capsys, *arguments)
    assert kept.read_text() == "{}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_is_not_writable(
    llama: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o500)
    arguments = ("train", "--model", llama, "--data", prompts, "--output-dir", tmp_path / "run")
    assert "not writable" in refused(capsys, *arguments)


def test_rows_longer_than_the_table_of_positions(
    tmp_path: Path, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny.save_model(tmp_path / "gpt2", "gpt2")
    arguments = ("train", "--model", model, "--data", prompts, "--text-field", "prompt")
    assert "positions for 128 tokens" in refused(capsys, *arguments, "--max-length", "129")


def test_run_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such run folder" in refused(capsys, "compare", tmp_path / "run", "--prompt", "x")


def test_every_tiny_family_is_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for family in tiny.CONFIGS:
        tiny.make_model(family).config.save_pretrained(tmp_path / family)
        assert lorita(["plan", str(tmp_path / family)]) == 0
        assert "trainable params" in capsys.readouterr().out
