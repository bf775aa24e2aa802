"""The preview says what training does: the same rows, the same tokens, the same counts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lorita
from lorita.cli import run as command
from lorita.cli.preview_page import page
from lorita.cli.preview_text import token_lines
from lorita.data.tokens.token_view import RowView, spell, view_row
from lorita.data.tokens.tokenize import tokenize_texts
from lorita.runs.prepare import prepare
from lorita.settings.build import build_settings
from tests import tiny
from tests.command import environment, with_imports
from tests.data.tokens.tokenizers import make


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def chat(*texts: str) -> dict[str, Any]:
    roles = ("user", "assistant") * len(texts)
    return {"messages": [{"role": r, "content": t} for r, t in zip(roles, texts, strict=False)]}


@pytest.mark.parametrize("overflow", ["truncate", "split", "drop"])
@pytest.mark.parametrize("length", [34, 40, 1000])
def test_the_figures_are_those_of_training(
    llama: Path, prompts: Path, tmp_path: Path, overflow: str, length: int
) -> None:
    options: dict[str, Any] = {
        "model": str(llama),
        "data": str(prompts),
        "text_field": "prompt",
        "max_length": length,
        "overflow": overflow,
    }
    found = lorita.preview(**options)
    data = prepare(build_settings(**options, output_dir=tmp_path / "run")).data
    assert found.trained.total == sum(example.num_targets for example in data.train)
    assert found.held_out_rows == len(data.held_out) or overflow == "split"
    kept = sum(len(example.input_ids) for example in data.train)
    if overflow != "split":
        assert found.lengths.total - found.tokens_cut == kept
    assert sum(each.rows for each in found.histogram) == found.train_rows
    shown = data.train[:3]
    assert [[t.id for t in view.tokens] for view in found.first_rows] == [
        example.input_ids for example in shown
    ]


def test_what_was_understood(llama: Path, prompts: Path) -> None:
    found = lorita.preview(model=str(llama), data=str(prompts), text_field="prompt")
    assert (found.format, found.columns, found.not_used) == ("text", {"text": "prompt"}, ["act"])
    assert list(found.others.values()) == ["--prompt-field act --completion-field prompt"]
    assert found.rows == found.train_rows + found.held_out_rows == 24
    assert any("the same as an earlier row" in problem.what for problem in found.problems)


def test_rows_that_training_refuses_are_told_with_the_others(llama: Path, tmp_path: Path) -> None:
    rows = [chat(f"Say {i}", f"I say {i}.") for i in range(20)]
    rows[3] = chat("Say", "")
    rows[5] = {"messages": []}
    rows[7]["messages"][1]["weight"] = 0
    rows[9]["messages"][1]["content"] = "Hello <br> there"
    data = write(tmp_path / "rows.jsonl", rows)
    found = lorita.preview(model=str(llama), data=str(data))
    stops = {problem.what: problem.rows for problem in found.problems if problem.stops}
    assert stops == {
        "message 2: the assistant turn is empty": [4],
        "the chat has no messages": [6],
        "nothing to train on": [8],
    }
    others = {problem.what: problem.rows for problem in found.problems if not problem.stops}
    assert others["leftover HTML"] == [10]
    assert found.unusable_rows == 3 and found.rows == 20


def test_duplicates_are_never_on_both_sides(llama: Path, tmp_path: Path) -> None:
    texts = [f"{i} " + " ".join(tiny.WORDS[i % 10 :] + tiny.WORDS[: i % 10]) * 2 for i in range(40)]
    data = write(tmp_path / "rows.jsonl", [{"text": text} for text in texts])
    held = write(tmp_path / "held.jsonl", [{"text": texts[3]}, {"text": "a text of its own"}])
    options: dict[str, Any] = {"model": str(llama), "data": str(data), "eval_data": str(held)}
    found = lorita.preview(**options)
    what = "held-out rows that duplicate training rows"
    assert next(p for p in found.problems if p.what == what).rows == [1]
    prepared = prepare(build_settings(**options, output_dir=tmp_path / "run")).data
    assert len(prepared.held_out) == 1
    assert any("duplicate training rows" in note for note in prepared.notes)
    split = prepare(build_settings(model=str(llama), data=str(data), output_dir=tmp_path / "x"))
    sides = [[texts[e.row][2:] for e in side] for side in (split.data.train, split.data.held_out)]
    assert not set(sides[0]) & set(sides[1])


@pytest.mark.parametrize("family", ["bytes", "spaces"])
@pytest.mark.parametrize(
    "text", ["Hello there,  you!\nA  line", "ñandú 👩‍👩‍👧 日本語", "\ufffd", " a"]
)
def test_the_tokens_spell_the_text(family: str, text: str) -> None:
    tokenizer = make(family, ("<|x|>",))
    ids = tokenizer(text + "<|x|>" + text)["input_ids"]
    whole = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    assert "".join(spell(tokenizer, ids)) == whole


def test_special_and_trained_tokens_are_marked() -> None:
    example = tokenize_texts(["ab"], tiny.make_tokenizer(), max_length=9).examples[0]
    view = view_row(example, tiny.make_tokenizer())
    assert [(t.text, t.trained, t.special) for t in view.tokens] == [
        ("a", False, False),
        ("b", True, False),
        ("<eos>", True, True),
    ]
    lines = [line.plain for line in token_lines(view, 80)]
    assert lines == [" masked   a", " trained  b│<eos>"]


def test_in_the_terminal(llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [chat(f"Say {i}", f"I say {i} & mean it. <b>") for i in range(12)]
    data, html = write(tmp_path / "rows.jsonl", rows), tmp_path / "page.html"
    arguments = ["preview", str(data), "--model", str(llama), "--html", str(html)]
    assert command(arguments) == 0
    said = capsys.readouterr().out
    for part in ("messages from 'messages'", "Row 1:", " masked ", " trained ", "leftover HTML"):
        assert part in said
    assert html.read_text().count('class="row"') == 3
    assert command([*arguments[:4], "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["format"] == "messages" and len(values["first_rows"]) == 3
    token = values["first_rows"][0]["tokens"][0]
    assert set(token) == {"text", "id", "trained", "special"}


def test_a_page_says_what_the_data_says_as_text(llama: Path, tmp_path: Path) -> None:
    row = {"text": "<script>alert(1)</script> " + "tea " * 20}
    data = write(tmp_path / "<i>.jsonl", [row] * 3)
    text = page(lorita.preview(model=str(llama), data=str(data)))
    assert "<script" not in text and "<i>.jsonl" not in text


def test_a_run_warns_and_stops(llama: Path, tmp_path: Path, capsys: Any) -> None:
    same = write(tmp_path / "same.jsonl", [{"text": "the same text"}] * 12)
    code = command(["train", "--model", str(llama), "--data", str(same)])
    assert code == 2
    assert "all rows are identical" in capsys.readouterr().err
    mailed = [{"text": f"Write to jane.roe{i}@mail.org about {i}."} for i in range(12)]
    data = write(tmp_path / "mailed.jsonl", mailed)
    settings = build_settings(model=str(llama), data=str(data), output_dir=tmp_path / "run")
    warnings = prepare(settings).data.warnings
    assert len(warnings) == 1 and "possible secrets (e-mail address j…@m….org)" in warnings[0]


def test_mistakes(llama: Path, prompts: Path, tmp_path: Path, capsys: Any) -> None:
    arguments = ["preview", str(prompts), "--model", str(llama), "--text-field", "prompt"]
    for more, said in {
        ("--html", str(tmp_path / "none" / "page.html")): "page.html: cannot be written",
        ("--text-field", "text"): "no column 'text'",
        ("--r", "3"): "--r",
    }.items():
        assert (
            command([*arguments, *more] if more[0] != "--text-field" else [*arguments[:4], *more])
            == 2
        )
        assert said in capsys.readouterr().err
    assert command(["preview", "--model", str(llama)]) == 2
    assert "data is missing" in capsys.readouterr().err


def test_settings_file(llama: Path, prompts: Path, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"model: {llama}\ndata: {prompts}\ntext_field: prompt\nr: 3\n")
    assert command(["preview", str(file), "--max-length", "20"]) == 0
    assert "max_length is 20" in capsys.readouterr().out


def test_a_long_row_is_shortened_in_the_terminal() -> None:
    example = tokenize_texts(["x" * 500], tiny.make_tokenizer(), max_length=999).examples[0]
    view: RowView = view_row(example, tiny.make_tokenizer())
    said = "".join(line.plain for line in token_lines(view, 80))
    assert "… 460 more …" in said


SLOW = {"torch", "datasets", "pandas"}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "txt", "chats"])
def test_a_preview_needs_no_slow_library(llama: Path, tmp_path: Path, kind: str) -> None:
    """As a command it starts without torch and datasets, and says what Python's preview says.

    What transformers made of a tokenizer is kept, so that the next preview needs none of it.
    """
    texts = tiny.make_texts(40)
    data = tmp_path / f"rows.{kind.replace('chats', 'jsonl')}"
    rows = [chat(text, text) if kind == "chats" else {"text": text} for text in texts]
    lines = [json.dumps(row) for row in rows] if "jsonl" in data.name else texts
    data.write_text("\n".join(["text", *lines] if kind == "csv" else lines))
    base = tmp_path / "base"
    shutil.copytree(llama, base)
    command_line = ["preview", str(data), "--model", str(base), "--json"]
    said = ""
    for unneeded in (SLOW, {*SLOW, "transformers", "huggingface_hub.hf_api"}):
        done, imported = with_imports(*command_line)
        said = done.out
        assert not unneeded & imported
        assert done.err == ""
    found = lorita.preview(model=str(base), data=str(data)).as_dict()
    assert json.loads(said) == json.loads(json.dumps(found))


def test_a_program_that_asks_for_a_preview_keeps_torch(llama: Path, prompts: Path) -> None:
    code = (
        "import sys, lorita; lorita.preview(model=sys.argv[1], data=sys.argv[2], "
        "text_field='prompt'); from transformers.utils import is_torch_available; "
        "assert is_torch_available()"
    )
    subprocess.run([sys.executable, "-c", code, llama, prompts], env=environment(), check=True)
