"""Problems in rows are found, named and masked; ordinary rows raise no alarm."""

from __future__ import annotations

import pytest

from lorita.data.quality.duplicates import find_duplicates
from lorita.data.quality.problems import Problem, find_problems, refuse_pointless
from lorita.data.quality.secrets import find_secrets, hide_secrets
from lorita.data.quality.text_checks import invisible, markup, mojibake, repetition
from lorita.data.rows import Chat, Message, Pair, Row, Text
from lorita.errors import DataError

PLAIN = [
    "An ordinary text: 3 < 5 and 7 > 2, a & b, 12.5 %, in 1999-2001.",
    "Ein Café in Zürich, 20 °C, «gut»; naïve œuvre — “quoted” … ñandú, Ελλάδα, 日本語",
    "می‌خواهم, 👩‍👩‍👧 and e\u0301\n\twith tabs and\nlines",
    "| a | b |\n|---|---|\n" + "-" * 80 + "\n" + "=" * 80,
    "def f(x):\n    return x <= 3 and y >= 4\n",
    "Version 1.2.3, ISBN 978-3-16-148410-0, 2024-05-06, 192.168.100.200, jane@example.com",
    "The sum of the numbers from 1 to 10 is 55. " * 2,
]


@pytest.mark.parametrize("text", PLAIN)
def test_ordinary_texts_have_no_problems(text: str) -> None:
    for check in (invisible, mojibake, markup, repetition, find_secrets):
        assert check(text) is None


FOUND = {
    "zero\u200bwidth": (invisible, "U+200B ZERO WIDTH SPACE"),
    "a\r\nb": (invisible, "U+000D CARRIAGE RETURN"),
    "\ufefftext": (invisible, "U+FEFF ZERO WIDTH NO-BREAK SPACE"),
    "\x00": (invisible, "U+0000 NULL"),
    "left \u202eright": (invisible, "U+202E RIGHT-TO-LEFT OVERRIDE"),
    "un cafÃ© solo": (mojibake, "'un cafÃ© solo'"),
    "itâ€™s": (mojibake, "itâ€™s"),
    "lost \ufffd": (mojibake, "U+FFFD REPLACEMENT CHARACTER"),
    "a<br/>b": (markup, "<br/>"),
    '<p class="x">': (markup, '<p class="x">'),
    "fish &amp; chips": (markup, "&amp;"),
    "a" * 60: (repetition, "'a' 60 times"),
    "and so on " * 60: (repetition, "'and so on' at least"),
}


@pytest.mark.parametrize("text", FOUND)
def test_problems_found_in_texts(text: str) -> None:
    check, said = FOUND[text]
    assert said in str(check(text))


SECRETS = {
    "AKIAABCDEFGHIJKLMNOP": "AWS key",
    "ghp_" + "a1B2" * 9: "GitHub token",
    "hf_" + "aBcDeFgH" * 4: "Hugging Face token",
    "sk-proj-abcdefghij0123456789": "API key",
    "-----BEGIN RSA PRIVATE KEY-----": "private key",
    "password = hunter2hunter2": "password",
    "jane.roe@mail.museum.org": "e-mail address",
    "+49 170 1234567": "phone number",
    "(555) 123-4567": "phone number",
}


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_are_found_and_never_shown(secret: str) -> None:
    text = f"before {secret} behind"
    said = find_secrets(text)
    assert said is not None and SECRETS[secret] in said
    assert secret not in said
    assert secret not in hide_secrets(text)


def find(rows: list[Row]) -> dict[str, Problem]:
    numbers = range(100, 100 + len(rows))
    return {p.what: p for p in find_problems(rows, numbers, find_duplicates(rows))}


def chat(*roles: str) -> Chat:
    return Chat(tuple(Message(role, f"{role} {i}") for i, role in enumerate(roles)))


def test_contradictions() -> None:
    rows: list[Row] = [Pair("Who?", "Me."), Pair("Who? ", "You."), Pair("Why?", "So.")]
    rows += [Pair("Why?", "So. ")]
    problem = find(rows)["different answers to the same prompt (1 prompt)"]
    assert problem.rows == [101, 102] and problem.example == "'Who?'"


def test_roles() -> None:
    found = find([chat("user", "assistant"), chat("user", "user", "assistant")])
    assert found["consecutive turns of the same role"].rows == [102]
    found = find([chat("user", "assistant", "user"), chat("user", "assistant", "tool")])
    assert found["ends with a question that has no answer"].rows == [101]


def test_languages() -> None:
    english = (
        "The lighthouse keeper wrote a letter to his sister about the winter and the sea, again. "
    )
    spanish = (
        "El farero escribió una carta a su hermana sobre el invierno y la mar. No podía dormir. "
    )
    rows: list[Row] = [Text(english + f"It was number {i} of many letters.") for i in range(9)]
    assert not any("language" in what for what in find(rows))
    rows += [Text(spanish + f"Era la número {i} de muchas cartas.") for i in range(2)]
    problem = find(rows)["in a different language from most rows"]
    assert problem.rows == [110, 111] and problem.example == "en 9, es 2"


def test_rows_are_counted_and_the_first_are_listed() -> None:
    problem = find([Text(f"<b>{i}</b>") for i in range(30)])["leftover HTML"]
    assert problem.count == 30
    assert problem.where == "30 rows (101, 102, 103, 104, 105, …)"


def test_identical_rows_stop_training() -> None:
    problems = find_problems([Text("a")] * 12, range(12), find_duplicates([Text("a")] * 12))
    with pytest.raises(DataError, match="all rows are identical") as caught:
        refuse_pointless(problems, "a.csv")
    assert "--num-train-epochs" in str(caught.value)
    few = [Text("a")] * 5
    refuse_pointless(find_problems(few, range(5), find_duplicates(few)), "a.csv")
