"""What is wrong with rows: each problem once, with its rows and what to do about it.

Nothing is changed and nothing refused here. ``stops`` marks what makes training pointless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from lorita.data.quality.duplicates import MOST_CHARACTERS, Duplicates
from lorita.data.quality.languages import languages
from lorita.data.quality.secrets import find_secrets, hide_secrets
from lorita.data.quality.text_checks import invisible, markup, mojibake, repetition
from lorita.data.rows import Chat, Message, Pair, Row, Text
from lorita.errors import DataError

MOST_ROWS_SHOWN, MOST_CHARACTERS_SHOWN = 5, 120
MOST_LANGUAGE_ROWS = 1000
MOST_OF_A_ROW = 100_000
"""Characters of a row that are looked through."""
FEWEST_OF_A_KIND = 10
"""So many rows that are all the same are one row."""


@dataclass(frozen=True)
class Problem:
    """``rows`` are the numbers of the first ones, counted from 1; ``example`` is from the first."""

    what: str
    count: int
    rows: list[int]
    fix: str
    example: str | None = None
    stops: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" ({self.example})" if self.example else "")

    @property
    def where(self) -> str:
        """``row 3`` or ``12 rows (3, 4, 8, 9, 11, …)``."""
        if self.count == 1:
            return f"row {self.rows[0]}"
        shown = ", ".join(map(str, self.rows))
        return f"{self.count:,} rows ({shown}{', …' if self.count > len(self.rows) else ''})"


def problem(
    what: str, rows: Sequence[int], fix: str, example: str | None = None, *, stops: bool = False
) -> Problem:
    """A problem of these rows, counted from 0; secrets in the example are masked."""
    shown = [row + 1 for row in sorted(rows)[:MOST_ROWS_SHOWN]]
    if example is not None:
        example = hide_secrets(example)[:MOST_CHARACTERS_SHOWN]
    return Problem(what, len(rows), shown, fix, example, stops)


TEXT_CHECKS: dict[str, tuple[Callable[[str], str | None], str]] = {
    "invisible or control characters": (
        invisible,
        "Take them out: they cost tokens and come back in what the model writes.",
    ),
    "text that was read in a wrong encoding": (
        mojibake,
        "Save the file again as UTF-8, or repair it: ftfy.fix_text(text).",
    ),
    "HTML is left over": (
        markup,
        "Take the markup out (html.unescape turns &amp; into &), unless it is to be learned.",
    ),
    "possible secrets": (
        find_secrets,
        "Replace them: a model can tell what it was trained on to anyone.",
    ),
    "very long repetitions": (repetition, "Shorten them: the model learns to go on and on."),
}


def find_problems(
    rows: Iterable[Row], numbers: Sequence[int], seen: Duplicates, *, most: int | None = None
) -> list[Problem]:
    """All problems that the rows themselves show; ``numbers`` are their places in the data.

    ``seen`` is about the rows' places here. With ``most`` only so many rows are looked at for
    what is not a duplicate, and never more text than ``MOST_CHARACTERS``.
    """
    looked = _portion(islice(rows, most))
    return [
        *_duplicate_problems(seen, numbers),
        *_contradictions(looked, numbers),
        *_unpaired(looked, numbers),
        *_text_problems(looked, numbers),
        *_mixed_languages(looked, numbers),
    ]


def _portion(rows: Iterable[Row]) -> list[Row]:
    """The first rows, as many as have ``MOST_CHARACTERS`` together."""
    taken, characters = [], 0
    for row in rows:
        taken.append(row)
        characters += len(_all_text(row))
        if characters > MOST_CHARACTERS:
            break
    return taken


def short_form(problems: Sequence[Problem]) -> list[str]:
    """A line for each problem."""
    return [f"{str(found)[0].upper()}{str(found)[1:]}" for found in problems]


def refuse_pointless(problems: Sequence[Problem], origin: str) -> None:
    """``DataError`` for the problems that make training pointless."""
    stops = [found for found in problems if found.stops]
    if stops:
        hints = "\n".join(found.fix for found in stops)
        raise DataError([f"{origin}: {found}" for found in stops], hint=hints)


def _duplicate_problems(seen: Duplicates, numbers: Sequence[int]) -> list[Problem]:
    found = []
    if seen.exact:
        same = len(seen.exact) == len(seen.groups) - 1 and len(seen.groups) >= FEWEST_OF_A_KIND
        found.append(
            problem(
                "every row says the same" if same else "the same as an earlier row",
                [numbers[i] for i in seen.exact],
                "Leave one and train more epochs (--num-train-epochs)."
                if same
                else "Remove the copies, unless these rows are to weigh more.",
                _same_as(seen.exact[0], seen, numbers),
                stops=same,
            )
        )
    if seen.near:
        what = "nearly the same as another row"
        fix = "Look at them: near copies weigh more, and say little new."
        rows = [numbers[i] for i in seen.near]
        found.append(problem(what, rows, fix, _same_as(seen.near[0], seen, numbers)))
    return found


def _same_as(place: int, seen: Duplicates, numbers: Sequence[int]) -> str:
    return f"row {numbers[place] + 1} like row {numbers[seen.groups[place]] + 1}"


def _contradictions(rows: Sequence[Row], numbers: Sequence[int]) -> list[Problem]:
    answers: dict[int, dict[str, int]] = {}
    shown: dict[int, str] = {}
    for number, row in zip(numbers, rows, strict=False):
        asked, answer = _asked(row)
        if asked is not None:
            key = hash(asked)
            answers.setdefault(key, {}).setdefault(" ".join(answer.split()), number)
            shown.setdefault(key, asked[-1].strip())
    several = {key: said for key, said in answers.items() if len(said) > 1}
    if not several:
        return []
    places = [number for said in several.values() for number in said.values()]
    prompt = shown[next(iter(several))]
    return [
        problem(
            f"different answers to one prompt ({len(several):,} "
            f"prompt{'s' if len(several) > 1 else ''})",
            places,
            "Keep the answer that is meant, or say in the prompt what differs.",
            repr(hide_secrets(prompt)[:40]),
        )
    ]


def _asked(row: Row) -> tuple[tuple[str, ...] | None, str]:
    """All that stands before the last answer, and that answer."""
    if isinstance(row, Pair):
        return (" ".join(row.prompt.split()),), row.completion
    if isinstance(row, Text):
        return None, ""
    last = max((i for i, m in enumerate(row.messages) if m.role == "assistant"), default=0)
    if not last:
        return None, ""
    before = tuple(part for m in row.messages[:last] for part in (m.role, m.content))
    return before, f"{row.messages[last].content}{dict(row.messages[last].extra)}"


def _unpaired(rows: Sequence[Row], numbers: Sequence[int]) -> list[Problem]:
    chats = [(n, row) for n, row in zip(numbers, rows, strict=False) if isinstance(row, Chat)]
    ends = [n for n, chat in chats if chat.messages and chat.messages[-1].role == "user"]
    twice = [n for n, chat in chats if _twice(chat.messages)]
    found = []
    if ends:
        fix = "Add the answer, or leave the last question out: nothing of it is trained."
        found.append(problem("ends with a question that has no answer", ends, fix))
    if twice:
        fix = "Put the turns together, or add the turn that is missing."
        found.append(problem("one role speaks twice in a row", twice, fix))
    return found


def _twice(messages: Sequence[Message]) -> bool:
    roles = [m.role for m in messages]
    alone = ("user", "assistant", "system")
    return any(one == other and one in alone for one, other in pairwise(roles))


def _text_problems(rows: Sequence[Row], numbers: Sequence[int]) -> list[Problem]:
    found: dict[str, list[int]] = {}
    examples: dict[str, str] = {}
    for number, row in zip(numbers, rows, strict=False):
        text = _all_text(row)[:MOST_OF_A_ROW]
        for what, (check, _) in TEXT_CHECKS.items():
            example = check(text)
            if example is not None:
                found.setdefault(what, []).append(number)
                examples.setdefault(what, example)
    return [
        problem(what, found[what], TEXT_CHECKS[what][1], examples[what])
        for what in TEXT_CHECKS
        if what in found
    ]


def _all_text(row: Row) -> str:
    if isinstance(row, Text):
        return row.text
    if isinstance(row, Pair):
        return f"{row.prompt}\n{row.completion}"
    return "\n".join(message.content for message in row.messages)


def _mixed_languages(rows: Sequence[Row], numbers: Sequence[int]) -> list[Problem]:
    step = len(rows) // MOST_LANGUAGE_ROWS + 1
    asked = list(zip(numbers, rows, strict=False))[::step]
    spoken = languages((number, _all_text(row)) for number, row in asked)
    if not spoken:
        return []
    (most, common), *others = spoken.items()
    places = [number for _, some in others for number in some]
    if len(places) < max(2, 0.01 * len(asked)):
        return []
    counts = ", ".join(f"{code} {len(some)}" for code, some in [(most, common), *others][:5])
    fix = "Fine where it is meant; otherwise the model may answer in the wrong language."
    what = "another language than most"
    return [problem(what, places, fix, counts + (f" of every {step}th row" if step > 1 else ""))]
