"""A kept tokenizer gives what transformers' gives, or is not kept."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

import lorita
from lorita.data.tokens.encoder import Encoder
from lorita.data.tokens.token_view import spell
from lorita.models.base import find_base, load_config, load_tokenizer
from lorita.models.plain_tokenizer import _KEPT_FACTS, find_plain, keep_plain
from tests.data.tokens.tokenizers import make

TEXTS = ["Hello there,  you!\nA  line", " a", "", "ñandú 👩‍👩‍👧 日本語\ufffd", "<s>a<|x|></s> b"]
CHATML = "{% for m in messages %}<|x|>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}"
CASES: dict[str, dict[str, Any]] = {
    "bytes": {"family": "bytes"},
    "spaces": {"family": "spaces", "special": ("<|x|>",)},
    "a first token": {"family": "spaces", "bos": "<s>", "adds_bos": True},
    "templates": {"family": "bytes", "special": ("<|x|>", "[/x]"), "bos": "<s>"},
}


@pytest.fixture(params=CASES)
def folder(request: pytest.FixtureRequest, llama: Path, tmp_path: Path) -> Path:
    """A base with such a tokenizer."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(_saved(request.param, tmp_path / "t"))
    if request.param == "templates":
        tokenizer.chat_template = {"default": CHATML, "tool_use": CHATML + "{{ tools }}"}
        tokenizer.add_tokens(
            [AddedToken("ñandú", normalized=False), AddedToken("yes", lstrip=True)]
        )
    shutil.copytree(llama, tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def _saved(name: str, folder: Path) -> Path:
    make(**CASES[name]).save_pretrained(folder)
    return folder


def test_ids_texts_and_facts_are_those_of_transformers(folder: Path) -> None:
    base = find_base(str(folder))
    assert find_plain(base) is None
    theirs = load_tokenizer(base)
    keep_plain(base, load_config(base), theirs)
    plain = find_plain(base)
    assert plain is not None and plain.context == 128
    ours = plain.tokenizer
    for name in _KEPT_FACTS:
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.added_tokens_decoder == theirs.added_tokens_decoder
    for special in (True, False):
        for given in (TEXTS[0], TEXTS):
            found = ours(given, add_special_tokens=special, return_offsets_mapping=True)
            wanted = theirs(given, add_special_tokens=special, return_offsets_mapping=True)
            for name in ("input_ids", "offset_mapping"):
                assert [*map(_listed, found[name])] == [*map(_listed, wanted[name])]
        for text in TEXTS:
            ids = theirs.encode(text, add_special_tokens=special)
            assert ours.encode(text, add_special_tokens=special) == ids
            assert spell(ours, ids) == spell(theirs, ids)
    one, other = Encoder(ours), Encoder(theirs)
    assert (one.eos, one.bos, one.starts(TEXTS), one.goes_on(TEXTS)) == (
        other.eos, other.bos, other.starts(TEXTS), other.goes_on(TEXTS)
    )  # fmt: skip


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def test_a_preview_is_the_same_the_second_time(folder: Path, prompts: Path) -> None:
    options: dict[str, Any] = {"model": str(folder), "data": str(prompts)}
    for more in ({"text_field": "prompt"}, {"prompt_field": "act", "completion_field": "prompt"}):
        first = lorita.preview(**options, **more)
        assert find_plain(find_base(str(folder))) is not None
        assert lorita.preview(**options, **more) == first
        added = lorita.preview(**options, **more, add_tokens=["qz"])  # needs transformers
        assert any("1 new token: qz" in note for note in added.notes)


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "config.json"])
def test_what_was_kept_is_not_used_for_changed_files(
    llama: Path, prompts: Path, tmp_path: Path, file: str
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(llama, folder)
    lorita.preview(model=str(folder), data=str(prompts), text_field="prompt")
    assert find_plain(find_base(str(folder))) is not None
    os.utime(folder / file, (1, 1))
    assert find_plain(find_base(str(folder))) is None
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert find_plain(find_base(str(folder))) is None


@pytest.mark.parametrize("what", ["decode", "split", "truncation"])
def test_a_tokenizer_that_does_more_is_not_kept(llama: Path, tmp_path: Path, what: str) -> None:
    shutil.copytree(llama, tmp_path / "base")
    base = find_base(str(tmp_path / "base"))
    tokenizer: Any = load_tokenizer(base)
    if what == "decode":
        kind = type("Own", (type(tokenizer),), {"_decode": lambda *_, **__: "something else"})
        tokenizer.__class__ = kind
    elif what == "split":
        tokenizer.backend_tokenizer.encode_special_tokens = True
    else:
        tokenizer.backend_tokenizer.enable_truncation(3)
    keep_plain(base, load_config(base), tokenizer)
    assert find_plain(base) is None


def test_a_base_with_code_of_its_own_is_never_kept(llama: Path) -> None:
    base = find_base(str(llama), trust_remote_code=True)
    keep_plain(base, load_config(base), load_tokenizer(base))
    assert find_plain(base) is None


@pytest.mark.parametrize("damage", ["{", json.dumps({"eos_token_id": 1})])
def test_what_is_damaged_is_made_again(
    llama: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "cache"))
    options: dict[str, Any] = {"model": str(llama), "data": str(prompts), "text_field": "prompt"}
    first = lorita.preview(**options)
    (facts,) = (tmp_path / "cache").rglob("facts.json")
    facts.write_text(damage)
    assert lorita.preview(**options) == first
    assert facts.read_text() != damage
