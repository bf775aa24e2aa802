"""No option is without effect and without a word: each is changed, and something is to be seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import lorita
from lorita.cli import run as command
from lorita.errors import LoritaError, LoritaWarning
from lorita.runs.prepare import prepare
from lorita.settings.build import build_settings
from lorita.settings.schema import RunSettings
from lorita.training.events import Evaluated, Note, StepDone
from lorita.workflows.plan import plan_run
from lorita.workflows.preview import preview
from tests import tiny

CHATS = {"data": "chats.jsonl", "text_field": None}
PAIRS = {"data": "pairs.jsonl", "text_field": None}
ROWS = [{"text": f"I act as number {i}."} for i in range(12)]

EFFECTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "model": ("bloom", {}),
    "dtype": ("bfloat16", {}),
    "base_precision": ("int8", {}),
    "data": ("chats.jsonl", {"text_field": None}),
    "data_name": ("b", {"data": "parts.json", "text_field": None}),
    "data_split": ("test", {"data": "splits.json", "text_field": None}),
    "file_type": ("csv", {}),
    "text_unit": ("file", {"data": "rows.txt", "text_field": None}),
    "streaming": (True, {"max_train_samples": 4}),
    "format": ("prompt-completion", {"text_field": None}),
    "text_field": ("act", {}),
    "text_template": ("{act}: {prompt}", {"text_field": None}),
    "messages_field": ("other", CHATS),
    "prompt_field": ("completion", PAIRS),
    "completion_field": ("prompt", PAIRS),
    "map_row": ("rows.py:shout", {}),
    "chat_template": ("zephyr", CHATS),
    "ignore_fields": ("mood", CHATS | {"data": "moods.jsonl"}),
    "control_tokens": ("tokens", {"data": "marks.txt", "text_field": None}),
    "add_tokens": ("act,<x>", {}), "add_special_tokens": ("<|x|>", {}),
    "train_on": ("all", CHATS),
    "max_train_samples": (5, {}),
    "eval_data": ("held.csv", {}),
    "eval_fraction": (0.4, {}),
    "max_eval_samples": (1, {}),
    "max_length": (12, {}),
    "overflow": ("split", {"max_length": 12}),
    "packing": (True, {}),
    "target_modules": ("q_proj", {}),
    "exclude_modules": ("q_proj", {}),
    "layers_to_transform": ("1", {}),
    "modules_to_save": ("embed_tokens", {}),
    "rank_pattern": ("q_proj=2", {}),
    "alpha_pattern": ("q_proj=2", {}),
    "init_lora_weights": ("pissa", {}), "loraplus_lr_ratio": (8.0, {}),
    "alora_invocation_tokens": ("I", {}),
    "bias": ("all", {}),
    "per_device_train_batch_size": (3, {}),
    "gradient_accumulation_steps": (2, {}),
    "micro_batch_tokens": (1, {}),
    "lr_scheduler_type": ("constant", {}),
    "early_stopping_patience": (1, {"eval_steps": 1, "learning_rate": 0.3, "max_steps": 9}),
    "load_best_model_at_end": (True, {}),
    "gradient_checkpointing": (True, {}),
    "use_cpu": (False, {}),
    "speedup": (False, {}),
    "max_skipped_steps": (0, {"learning_rate": 1e3, "lora_alpha": 1e38, "max_grad_norm": 0}),
    "eval_steps": (1, {}),
    "save_steps": (1, {}),
    "save_total_limit": (1, {"save_steps": 1}),
    "resume": (True, {}),
    "resume_from_checkpoint": ("none", {}),
    "compare_prompt": (["tea"], {}),
    "max_new_tokens": (5, {}),
    "repetition_penalty": (0.01, {"max_new_tokens": 8}),
    "proof": (True, {}),
    "probe": (True, {"max_steps": 5}),
    "push_to_hub": (True, {}),
    "output_dir": ("other", {}),
    "r": (2, {}), "lora_alpha": (8, {}), "lora_dropout": (0.5, {}), "use_rslora": (True, {}),
    "use_dora": (True, {}), "learning_rate": (0.5, {}),
    "num_train_epochs": (1, {"max_steps": None}),
    "time_budget": ("1h", {"probe": True}),
    "max_steps": (2, {}), "warmup_steps": (2, {}), "weight_decay": (0.9, {}),
    "adam_beta1": (0.1, {}), "adam_beta2": (0.1, {}), "adam_epsilon": (1.0, {}),
    "max_grad_norm": (0.001, {}), "seed": (7, {}),
    # What has an effect only elsewhere, and says so here.
    "revision": ("main", {}), "trust_remote_code": (True, {}), "data_revision": ("main", {}),
    "use_liger_kernel": (True, {}), "hub_model_id": ("a/b", {}), "resume_inexact": (True, {}),
}  # fmt: skip
ELSEWHERE = {
    "trust_remote_code": "tests/inference/test_remote_code.py",
    "use_cpu": "there is no other device to see it on",
    "micro_batch_tokens": "only how much is computed at once: tests/training/test_loop.py",
    "gradient_checkpointing": "only memory: test_run.py",
    "file_type": "what the name says already: tests/data/sources/test_load_source.py",
    "logging_steps": "only lines: tests/workflows/test_progress.py",
    "overwrite": "tests/runs/test_output_folder.py",
    "report_to": "only what trackers get: tests/runs/test_trackers.py",
}
"""Options that change nothing that can be seen in a run here, and where they are tested."""


@pytest.fixture
def place(llama: Path, bloom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with rows of every kind, and the models ``llama`` and ``bloom``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    Path("llama").symlink_to(llama)
    Path("bloom").symlink_to(bloom)
    tiny.write_csv(Path("rows.csv"), tiny.make_texts(24))
    tiny.write_csv(Path("held.csv"), ["Nine small boats.", "Rain on a roof."])
    Path("rows.txt").write_text("".join(f"I act as number {i}.\n" for i in range(12)))
    Path("marks.txt").write_text("".join(f"I act {i}.<eos>\n" for i in range(12)))
    Path("rows.py").write_text(
        "def shout(row):\n    return {**row, 'prompt': row['prompt'].upper()}\n"
    )
    turns = [
        [{"role": "user", "content": f"tea {i}?"}, {"role": "assistant", "content": f"I act {i}."}]
        for i in range(12)
    ]
    rows = [{"messages": t, "other": t[::-1][1:] + t[1:], "note": "x"} for t in turns]
    Path("chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    moods = [{"messages": [{**turn, "mood": "calm"} for turn in chat]} for chat in turns]
    Path("moods.jsonl").write_text("".join(json.dumps(row) + "\n" for row in moods))
    pairs = [{"prompt": f"tea {i}?", "completion": f" I act {i}."} for i in range(12)]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    for file, names in (("parts.json", ("a", "b")), ("splits.json", ("train", "test"))):
        parts = {name: [{"text": f"{name} {i} acts."} for i in range(12)] for name in names}
        Path(file).write_text(json.dumps(parts))
    return tmp_path


def seen(**options: Any) -> Any:
    """Everything that a short run shows: what it says, its losses, its answers, its files."""
    given: dict[str, Any] = {
        "model": "llama", "data": "rows.csv", "text_field": "prompt", "dtype": "float32",
        "max_steps": 3, "learning_rate": 1e-2, "per_device_train_batch_size": 4, "proof": False,
        "max_new_tokens": 3, "compare_prompt": ["I act"], "use_cpu": True, "probe": False,
    }  # fmt: skip
    found: list[Any] = []

    def note(event: Any) -> None:
        if isinstance(event, StepDone):
            found.append((event.step, event.loss, event.grad_norm, event.learning_rate))
        elif isinstance(event, Evaluated):
            found.append(event)
        elif isinstance(event, Note):
            found.append(event.text.split("; another")[0])

    try:
        done = lorita.train(on_event=note, **given | {"output_dir": "run"} | options)
    except LoritaError as error:
        return [*found, str(error)]
    files = sorted(str(f.relative_to(done.path)) for f in done.path.rglob("*") if f.is_file())
    return [*found, str(done.comparison), str(done.path), files]


def test_every_option_is_looked_at() -> None:
    assert {*EFFECTS, *ELSEWHERE} == set(RunSettings.model_fields)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in EFFECTS if n not in ELSEWHERE])
def test_each_option_shows(name: str, place: Path) -> None:
    value, beside = EFFECTS[name]
    before = seen(**beside)
    if not isinstance(before[-1], str):  # it came to its end, and is to be made anew
        import shutil

        shutil.rmtree("run")
    after = seen(**{**beside, name: value})
    assert after != before


PLAIN: dict[str, Any] = {"model": "llama", "data": "rows.csv", "text_field": "prompt"}
IDLE: list[tuple[dict[str, Any], str]] = [
    ({"revision": "v2"}, "revision v2 does nothing: the model is on this machine"),
    ({"data_revision": "v2"}, "data_revision v2 does nothing: the data is on this machine"),
    ({"data_split": "test"}, "data_split test does nothing: a file of this type has no splits"),
    ({"text_unit": "file"}, "text_unit file does nothing: these rows do not come from a text file"),
    ({"chat_template": "chatml"}, "chat_template chatml does nothing: these rows are plain texts"),
    ({"ignore_fields": "a,b"}, "ignore_fields a,b does nothing: these rows are no chats"),
    ({**PAIRS, "ignore_fields": "a"}, "ignore_fields a does nothing"),
    ({"eval_data": "held.csv", "eval_fraction": 0.5}, "eval_fraction 0.5 does nothing: held-out"),
    ({"data": ROWS, "text_field": None, "data_name": "x"}, "data_name x does nothing: the rows"),
    ({"data": ROWS, "text_field": None, "file_type": "csv"}, "file_type csv does nothing"),
    ({"data": ROWS, "text_field": None, "data_revision": "x"}, "data_revision x does nothing"),
    (
        {"data": ROWS, "text_field": None, "streaming": True, "max_train_samples": 3},
        "streaming True does nothing: the rows were passed in Python",
    ),
    ({"eval_steps": 2, "eval_fraction": 0}, "eval_steps 2 does nothing: no rows are held out"),
    ({"max_eval_samples": 7, "eval_fraction": 0}, "max_eval_samples 7 does nothing"),
    ({"save_total_limit": 5}, "save_total_limit 5 does nothing: no checkpoints"),
    ({"num_train_epochs": 9, "max_steps": 4}, "num_train_epochs 9.0 does nothing: max_steps 4"),
    ({"hub_model_id": "a/b"}, "hub_model_id a/b does nothing: nothing is uploaded"),
    ({"resume_inexact": True}, "resume_inexact True does nothing: no run is continued"),
    ({"use_liger_kernel": True}, "use_liger_kernel True does nothing: there is no GPU"),
    ({"use_rslora": True, "r": 1}, "use_rslora True does nothing: with r 1 it is the same"),
    ({"eval_steps": 50, "max_steps": 20}, "eval_steps 50 does nothing: there are only 20 steps"),
    ({"save_steps": 50, "max_steps": 20}, "save_steps 50 does nothing: there are only 20 steps"),
    (
        {"early_stopping_patience": 3, "eval_steps": 5, "max_steps": 16},
        "early_stopping_patience 3 does nothing: the loss is measured 3 times on the way",
    ),
    ({"warmup_steps": 20, "max_steps": 20}, "the learning rate never reaches"),
    (
        {"bias": "lora_only", "target_modules": "gate_proj"},
        "bias lora_only does nothing: none of the adapted layers has one",
    ),
    (
        {"target_modules": "q_proj", "exclude_modules": "up_proj"},
        "exclude_modules does nothing: none of these modules is a target",
    ),
]


@pytest.mark.parametrize(("options", "said"), IDLE, ids=[said[:30] for _, said in IDLE])
def test_what_does_nothing_is_said(options: dict[str, Any], said: str, place: Path) -> None:
    """In a plan, and so in a run, which says the same."""
    settings = build_settings(**{**PLAIN, **options, "probe": False, "use_cpu": True})
    assert said in str(plan_run(settings, data=True))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"eval_steps": 5, "save_steps": 20, "save_total_limit": 1, "max_steps": 20},
        {"early_stopping_patience": 3, "eval_steps": 4, "max_steps": 20},
        {"bias": "lora_only"},
        {"exclude_modules": "up_proj"},
        {"data": "rows.txt", "text_field": None, "text_unit": "line", "file_type": "text"},
        {**CHATS, "chat_template": "chatml", "ignore_fields": "note"},
        {**PAIRS, "chat_template": "chatml"},
        {"data": "splits.json", "text_field": None, "data_split": "test"},
        {"num_train_epochs": 5},
    ],
    ids=str,
)
def test_what_does_something_is_not_said_to_do_nothing(
    options: dict[str, Any], place: Path
) -> None:
    settings = build_settings(**{**PLAIN, **options, "probe": False, "use_cpu": True})
    assert "does nothing" not in str(plan_run(settings, data=True))


def test_a_run_and_a_preview_say_it_too(place: Path) -> None:
    given: dict[str, Any] = {**PLAIN, "data_split": "test", "output_dir": "run"}
    said = "data_split test does nothing"
    assert any(said in line for line in prepare(build_settings(**given)).data.warnings)
    assert any(said in line for line in preview(**given).notes)
    notes = seen(data_split="test", bias="lora_only", target_modules="up_proj", eval_steps=9)
    texts = [note for note in notes if isinstance(note, str)]
    for option in ("data_split test", "bias lora_only", "eval_steps 9"):
        assert sum(f"{option} does nothing" in text for text in texts) == 1


def test_a_bias_where_there_is_one_is_trained(place: Path) -> None:
    plan = plan_run(build_settings(model="llama", data="x", bias="all"))
    assert "does nothing" not in str(plan)
    (place / "none").mkdir()
    config = json.loads(Path("llama/config.json").read_text()) | {"attention_bias": False}
    Path("none/config.json").write_text(json.dumps(config))
    for kind in ("all", "lora_only"):
        plan = plan_run(build_settings(model="none", data="x", bias=kind))
        assert f"bias {kind} does nothing" in str(plan)


COMMANDS: list[tuple[list[str], str]] = [
    (["generate", "llama", "hi", "--temperature", "0.7"], "temperature does nothing"),
    (["generate", "llama", "hi", "--top-k", "5", "--top-p", "0.5"], "top_k and top_p do nothing"),
    (["generate", "llama", "hi", "--base", "bloom"], "base bloom does nothing: llama is a base"),
    (["compare", "run", "--max-new-tokens", "5"], "--max-new-tokens does nothing without --prompt"),
    (["compare", "run", "--engine", "llama.cpp"], "--engine does nothing without --prompt"),
    (["merge", "run", "out", "--combination-type", "ties"], "--combination-type does nothing"),
    (["targets", "llama", "--revision", "v2"], "--revision does nothing here"),
    (["plan", "llama", "--max-length", "9", "--seed", "1"], "--max-length, --seed do nothing"),
    (
        ["export", "ollama", "run", "o", "--top-k", "3"],
        "--top-k does nothing without --temperature",
    ),
    (
        ["export", "ollama", "run", "o2", "--adapter-only", "--from", "x", "--quantize", "q4_0"],
        "--quantize does nothing with --adapter-only",
    ),
    (["evaluate", "run", "--lm-eval", "x", "--data", "rows.csv"], "--data does nothing with --lm"),
    (
        ["sweep", "run", "--find-lr", "--learning-rate", "1e-3", "--max-steps", "2"],
        "--learning-rate, --max-steps do nothing with --find-lr",
    ),
]


def test_flags_of_commands(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen(max_steps=1)
    for arguments, said in COMMANDS:
        short = ["--max-new-tokens", "2"] if arguments[0] == "generate" else []
        command([*arguments, *short])
        assert said in capsys.readouterr().err.replace("without do_sample, ", ""), arguments


def test_a_bare_base_needs_no_base(place: Path) -> None:
    from lorita.inference.resolve import resolve

    with pytest.warns(LoritaWarning, match="is a base model itself"):
        resolve("llama", "bloom")
