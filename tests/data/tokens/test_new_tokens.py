"""New tokens of a tokenizer, and marks of a chat template that should be some."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lorita.data.tokens.choose_template import choose_template
from lorita.data.tokens.new_tokens import MOST, add_new_tokens
from lorita.errors import SettingsError
from lorita.settings.build import build_settings, to_yaml
from tests import tiny


def listed(value: object, name: str = "add_tokens") -> list[str]:
    found: list[str] = getattr(build_settings(model="m", data="d", **{name: value}), name)
    return found


def test_a_list_is_written_in_a_line_in_a_file_or_in_python(tmp_path: Path) -> None:
    assert listed("<a>,<b>") == ["<a>", "<b>"]
    assert listed(["<a,b>", "rows.txt"]) == ["<a,b>", "rows.txt"]
    words = tmp_path / "words.txt"
    words.write_text("<a>\n\n<b, c>\n", encoding="utf-8-sig")
    assert listed(str(words)) == listed(words) == ["<a>", "<b, c>"]
    words = words.with_suffix(".json")
    words.write_text(json.dumps(["<a>", "é"]))
    settings = build_settings(model="m", data="d", add_special_tokens=str(words))
    assert settings.add_special_tokens == ["<a>", "é"]
    # What is written holds the tokens, and is read as a list again.
    again = tmp_path / "run.yaml"
    again.write_text(to_yaml(settings), encoding="utf-8")
    assert build_settings(again).add_special_tokens == ["<a>", "é"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", b'{"a": 1}', "expected a JSON list of texts"),
        ("a.json", b"[1]", "expected a JSON list of texts"),
        ("a.json", b"[", "not valid JSON"),
        ("a.txt", b"\xff\xfe\x41", "not in UTF-8"),
        ("a.txt", b"x" * (2**20 + 1), "larger than 1 MB"),
        ("a.txt", "é".encode() * 2**20, "larger than 1 MB"),
    ],
)
def test_files_that_hold_no_list(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingsError, match=said):
        listed(str(tmp_path / name))


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    """They are no tokens of that name."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(SettingsError, match="not a file"):
            listed(str(path))
    assert listed("a/b") == ["a/b"]


def test_a_shell_s_pipe_is_read() -> None:
    read, write = os.pipe()
    os.write(write, b"<a>\n<b>\n")
    os.close(write)
    assert listed(f"/dev/fd/{read}") == ["<a>", "<b>"]
    os.close(read)


def test_many_impossible_tokens_are_a_short_message() -> None:
    tokenizer = tiny.make_tokenizer()
    with pytest.raises(SettingsError) as error:
        add_new_tokens(tokenizer, [f"a\0{i}" for i in range(40_000)], ["x" * 1001])
    assert len(str(error.value)) < 1000 and "and 39,995 more like these" in str(error.value)
    assert "1,001 characters; a token has at most 1,000" in str(error.value)
    assert not tokenizer.get_added_vocab().keys() - {"<eos>"}


def test_pieces_and_kinds() -> None:
    tokenizer = tiny.make_tokenizer()
    pieces = tokenizer.encode("<ab>", add_special_tokens=False)
    new = add_new_tokens(tokenizer, ["<ab>", "New York"], ["<|end|>"])
    assert new.texts == ("<ab>", "New York", "<|end|>")
    assert list(new.pieces) == [257, 258, 259] and new.pieces[257] == pieces
    assert new.special == {"<|end|>"}
    assert tokenizer.encode("x<ab>y", add_special_tokens=False)[1] == 257
    assert tokenizer.decode([258, 259], skip_special_tokens=True) == "New York"
    # A second time there is nothing to add.
    again = add_new_tokens(tokenizer, ["<ab>"], None)
    assert not again.pieces and "already: <ab>" in again.notes[0]


def test_a_thousand_tokens_are_quick_and_too_many_refused() -> None:
    tokenizer = tiny.make_tokenizer()
    new = add_new_tokens(tokenizer, [f"<w{i}>" for i in range(1000)], None)
    assert list(new.pieces) == list(range(257, 1257))
    assert new.notes == ("1,000 new tokens: <w0>, <w1>, <w2>, <w3>, <w4> and 995 more",)
    with pytest.raises(SettingsError, match="at most 50,000"):
        add_new_tokens(tokenizer, [f"<{i}>" for i in range(MOST + 1)], None)


@pytest.mark.parametrize(
    ("template", "marks"),
    [
        ("chatml", "<|im_start|>,<|im_end|>"),
        ("gemma", "<start_of_turn>,<end_of_turn>"),
        ("llama3", "<|start_header_id|>,<|end_header_id|>,<|eot_id|>"),
        ("mistral", "[INST],[/INST]"),
        ("alpaca", ""),
    ],
)
def test_marks_of_a_template_are_proposed(template: str, marks: str) -> None:
    tokenizer = tiny.make_tokenizer()
    _, notes = choose_template(tokenizer, template, "chat")
    proposed = [note for note in notes if "--add-special-tokens" in note]
    assert [note.rpartition(" ")[2] for note in proposed] == ([f'"{marks}"'] if marks else [])
    if marks:
        add_new_tokens(tokenizer, None, marks.split(","))
        _, notes = choose_template(tokenizer, template, "chat")
        assert not any("--add-special-tokens" in note for note in notes)
