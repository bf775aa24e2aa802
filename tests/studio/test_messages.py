"""lorita's own messages in Spanish: those that are most likely are, and no other pretends to be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lorita
from lorita.data.quality.problems import TEXT_CHECKS, Problem, problem
from lorita.errors import DataError
from lorita.studio.explained import explained
from lorita.studio.messages import language_remark, said, said_list, translated
from lorita.studio.texts.spanish_messages import MESSAGES
from lorita.studio.words import ENGLISH, SPANISH
from lorita.training.advice import advice

PUT_TOGETHER = ("messages from", "prompt-completion from", "epochs of", "epoch of")
"""Whose words are values in the source."""
FIELD = re.compile(r"\{(\w+)\}")


def test_every_message_is_one_of_lorita() -> None:
    """A message that is reworded must be reworded in the catalogue, too."""
    folder = Path(lorita.__file__).parent
    files = (f for f in folder.rglob("*.py") if "studio" not in f.parts)
    source = " ".join(file.read_text(encoding="utf-8") for file in files)
    joined = re.sub(r'"\s+f?"', "", source)
    for message in MESSAGES:
        for words in FIELD.split(message)[::2]:
            for part in re.split(r" ?[()] ?", words):
                part = part.strip(" :,;0123456789")
                assert part in joined or part in PUT_TOGETHER, (message, part)


def test_the_same_values_in_both_languages() -> None:
    for english, spanish in MESSAGES.items():
        assert set(FIELD.findall(spanish)) <= set(FIELD.findall(english)), english


@pytest.mark.parametrize("rows", [[3], [3, 5], list(range(30))])
@pytest.mark.parametrize("what", TEXT_CHECKS)
def test_what_is_wrong_with_rows(what: str, rows: list[int]) -> None:
    found: Problem = problem(what, rows, TEXT_CHECKS[what][1])
    for text in (found.where, found.what, found.fix, str(found)):
        assert translated(SPANISH, text) not in (None, text), text
        assert translated(ENGLISH, text) == text


@pytest.mark.parametrize(("english", "spanish"), [
    ("text from the column 'prompt'", "texto de la columna 'prompt'"),
    ("held out: 16 of 164 rows, chosen at random (seed 42)",
     "reservadas: 16 de 164 filas, elegidas al azar (semilla 42)"),
    ("2 rows (2, 3): the same as an earlier row (row 2 like row 1)",
     "2 filas (2, 3): igual que una fila anterior (la fila 2 es como la 1)"),
    ("Row 5: leftover HTML (<b>)", "fila 5: restos de HTML (<b>)"),
    ("a.csv: the file is empty", "a.csv: el archivo está vacío"),
    ("a.pdf: this is a PDF; extract its text first", "a.pdf: es un PDF; extrae antes su texto"),
])  # fmt: skip
def test_messages_with_values(english: str, spanish: str) -> None:
    assert translated(SPANISH, english) == spanish


def test_advice() -> None:
    texts = advice(
        rows=20, epochs=8, steps=5, learning_rate=1e-4, scaling=1, warmup_steps=0,
        modules_to_save=False, guarded=False,
    )  # fmt: skip
    assert len(texts) == 2 and None not in [translated(SPANISH, text) for text in texts]


def test_what_stays_in_english_is_marked() -> None:
    unknown = "something <b> new"
    assert said(SPANISH, unknown) == '<span lang="en">something &lt;b&gt; new</span>'
    assert said(ENGLISH, unknown) == "something &lt;b&gt; new"
    assert SPANISH("in_english") in said_list(SPANISH, ["leftover HTML", unknown])
    assert language_remark(SPANISH, ["leftover HTML"]) == ""
    assert language_remark(ENGLISH, [unknown]) == ""


def test_an_error_of_several_lines() -> None:
    known = explained(SPANISH, DataError(["a.txt: the file is empty"]))
    assert "el archivo está vacío" in known and 'lang="en"' not in known
    mixed = explained(SPANISH, DataError(["a.txt: the file is empty"], hint="Do it."))
    assert 'lang="en"' in mixed and SPANISH("in_english") in mixed
