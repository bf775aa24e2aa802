"""Runs on prompts and chats: what is recorded, and that an answer comes through the template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import lorita
from lorita.cli import run as command
from lorita.inference.generation import GenerationOptions, generate

TEMPLATE = (
    "{% for m in messages %}{{ m.role[0] + ':' + m.content + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'a:' }}{% endif %}"
)


def chats(path: Path, *, system: str = "s") -> Path:
    rows = []
    for i in range(12):
        turns = [("system", system), ("user", f"tea {i}?"), ("assistant", f"I act {i}.")]
        rows.append({"messages": [{"role": role, "content": text} for role, text in turns]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def train(run: Path, model: Path, data: Path, **options: Any) -> lorita.RunResult:
    given: dict[str, Any] = {
        "dtype": "float32",
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "max_new_tokens": 4,
        "use_cpu": True,
        "on_event": lambda event: None,
    }
    return lorita.train(model=str(model), data=str(data), output_dir=run, **given | options)


def record(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "lorita.json").read_text())
    return values


def test_a_chat_run_is_asked_through_its_template(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template, run = tmp_path / "mine.jinja", tmp_path / "run"
    template.write_text(TEMPLATE)
    result = train(run, llama, chats(tmp_path / "rows.jsonl"), chat_template=str(template))

    kept = record(run)["prompt_format"]
    assert kept == {
        "kind": "chat",
        "control_tokens": "text",
        "chat_template": TEMPLATE,
        "template_name": "mine.jinja",
        "system": "s",
        "end_of_turn": "<eos>",
    }
    assert AutoTokenizer.from_pretrained(run).chat_template == TEMPLATE
    answers = json.loads((run / "compare.json").read_text())["answers"]
    assert answers[0]["prompt"].startswith("tea ")

    tuned = lorita.load(run, dtype="float32")
    asked = answers[0]["prompt"]
    spelled = f"s:s<eos>u:{asked}<eos>a:"
    options = GenerationOptions(max_new_tokens=4, repetition_penalty=tuned.prompt_format.penalty)
    plain = generate(tuned.model, tuned.tokenizer, [spelled], options)[0]
    assert tuned.generate(asked, max_new_tokens=4) == plain == answers[0]["after"]
    assert result.generate(asked, max_new_tokens=4) == plain

    short = ("--max-new-tokens", "4", "--dtype", "float32")
    assert command(["compare", str(run), "--prompt", asked, *short]) == 0
    assert command(["generate", str(run), asked, *short]) == 0
    assert capsys.readouterr().out.endswith(f"{asked}\n{plain}\n")


def test_a_base_without_a_template_gets_chatml(llama: Path, tmp_path: Path) -> None:
    run, notes = tmp_path / "run", []
    data = chats(tmp_path / "rows.jsonl", system="")

    def listen(event: Any) -> None:
        notes.append(getattr(event, "text", ""))

    train(run, llama, data, on_event=listen, eval_fraction=0)
    said = "\n".join(notes)
    assert "messages from 'messages'" in said
    assert "the tokenizer has no chat template: chatml is used" in said
    assert "'<|im_end|>' is not a token of this tokenizer" in said
    assert record(run)["prompt_format"]["template_name"] == "chatml"
    assert record(run)["prompt_format"]["end_of_turn"] == "<|im_end|>"
    assert "<|im_start|>" in (run / "chat_template.jinja").read_text()


def test_pairs_of_a_base_stay_as_they_are(llama: Path, prompts: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fields = {"prompt_field": "act", "completion_field": "prompt", "max_length": 20}
    notes: list[str] = []
    train(run, llama, prompts, **fields, on_event=lambda e: notes.append(getattr(e, "text", "")))
    assert record(run)["prompt_format"] == {
        "kind": "pair",
        "control_tokens": "text",
        "chat_template": None,
    }
    assert not (run / "chat_template.jinja").exists()
    answers = json.loads((run / "compare.json").read_text())["answers"]
    assert all(answer["prompt"].startswith("role ") for answer in answers)
    assert any("tokens were cut" in note and "would have been trained" in note for note in notes)


def test_long_texts_are_split(llama: Path, prompts: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    options: dict[str, Any] = {"text_field": "prompt", "max_length": 12, "overflow": "split"}
    train(
        tmp_path / "run",
        llama,
        prompts,
        **options,
        on_event=lambda e: notes.append(getattr(e, "text", "")),
    )
    assert any("were split" in note and "no token lost" in note for note in notes)
