"""Both languages say the same things."""

from __future__ import annotations

import re
import string
from pathlib import Path

import lorita.studio
from lorita.studio.texts import english, spanish
from lorita.studio.words import ENGLISH, LANGUAGES, SPANISH, preferred

FORMAT = string.Formatter()


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in FORMAT.parse(text) if name}


def test_the_same_keys_and_the_same_values() -> None:
    assert english.TEXTS.keys() == spanish.TEXTS.keys()
    for key, text in english.TEXTS.items():
        assert fields(text) == fields(spanish.TEXTS[key]), key


def test_nothing_is_left_untranslated() -> None:
    same = {key for key, text in english.TEXTS.items() if text == spanish.TEXTS[key]}
    assert same == {"title", "tab_chat", "lora_alpha", "others_example", "speed"}


def test_every_text_is_used_and_every_key_exists() -> None:
    folder = Path(lorita.studio.__file__).parent
    source = "".join(p.read_text(encoding="utf-8") for p in folder.glob("*.py"))
    said = set(re.findall(r'words\(\s*"(\w+)"', source)) | set(re.findall(r'Told\("(\w+)"', source))
    assert said - english.TEXTS.keys() == set()
    parts = set(re.findall(r"[\"'](\w+)[\"']", source))
    made = ("state_", "export_", "tab_")
    unused = {
        key
        for key in english.TEXTS.keys() - parts
        if not key.startswith(made) and key.removesuffix("_help") not in parts
    }
    assert unused == set()


def test_numbers_as_each_language_writes_them() -> None:
    assert ENGLISH.figure(1.5) == "1.500" and SPANISH.figure(1.5) == "1,500"
    assert ENGLISH.count(12345) == "12,345" and SPANISH.count(12345) == "12\xa0345"
    assert SPANISH.size(1_500_000_000) == "1,5 GB" and ENGLISH.size(33_000) == "0.03 MB"
    assert SPANISH.figure(float("nan")) == "–"


def test_the_language_of_the_browser() -> None:
    for accepted, language in (
        ("es-MX,es;q=0.9,en;q=0.8", "es"), ("de-DE,de;q=0.9,es;q=0.5", "es"), ("fr", "en"),
        ("", "en"), ("EN-gb", "en"), (";;,,", "en"),
    ):  # fmt: skip
        assert preferred(accepted) is LANGUAGES[language]
