"""Problems in rows: each reported once, with its rows and what to do about it.

Nothing is changed here. ``stops`` marks problems that make training pointless.
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
from lorita.data.tokens.control_tokens import ControlTokens
from lorita.errors import DataError

MOST_ROWS_SHOWN, MOST_CHARACTERS_SHOWN = 5, 120
MOST_LANGUAGE_ROWS = 1000
MOST_OF_A_ROW = 100_000
"""Characters of a row that are checked."""
FEWEST_OF_A_KIND = 10
"""From this many rows on, data whose rows are all identical stops training."""


@dataclass(frozen=True)
class Problem:
    """One kind of problem and the rows that have it.

    ``rows`` are the first ``MOST_ROWS_SHOWN`` of ``count``, counted from 1; ``example`` is an
    excerpt from the first. ``fix`` is what to do about it.
    """

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
    """A ``Problem`` of these rows, counted from 0; secrets in the example are masked."""
    shown = [row + 1 for row in sorted(rows)[:MOST_ROWS_SHOWN]]
    if example is not None:
        example = hide_secrets(example)[:MOST_CHARACTERS_SHOWN]
    return Problem(what, len(rows), shown, fix, example, stops)


TEXT_CHECKS: dict[str, tuple[Callable[[str], str | None], str]] = {
    "invisible or control characters": (
        invisible,
        "Remove them: they cost tokens, and the model will write them too.",
    ),
    "text decoded with the wrong encoding": (
        mojibake,
        "Save the file as UTF-8 again, or repair the text: ftfy.fix_text(text).",
    ),
    "leftover HTML": (
        markup,
        "Remove the markup (html.unescape turns &amp; into &) unless the model should learn it.",
    ),
    "possible secrets": (
        find_secrets,
        "Replace them: a model can repeat its training data to anyone.",
    ),
    "very long repetitions": (repetition, "Shorten them: the model would learn to repeat itself."),
}


def find_problems(
    rows: Iterable[Row],
    numbers: Sequence[int],
    seen: Duplicates,
    *,
    most: int | None = None,
    control: ControlTokens | None = None,
) -> list[Problem]:
    """All problems found in the rows; ``numbers`` are their row numbers in the data.

    ``seen`` refers to rows by their index here. Problems other than duplicates are looked for in
    the first ``most`` rows only, and in at most ``MOST_CHARACTERS`` of text. ``control`` are the
    control tokens that the rows may spell as text; None if they mean the tokens.
    """
    looked = _portion(islice(rows, most))
    return [
        *_duplicate_problems(seen, numbers),
        *_contradictions(looked, numbers),
        *_unpaired(looked, numbers),
        *_text_problems(looked, numbers),
        *(_control_problems(looked, numbers, control) if control else ()),
        *_mixed_languages(looked, numbers),
    ]


def _portion(rows: Iterable[Row]) -> list[Row]:
    """The first rows, up to ``MOST_CHARACTERS`` of text in total."""
    taken, characters = [], 0
    for row in rows:
        taken.append(row)
        characters += len(_all_text(row))
        if characters > MOST_CHARACTERS:
            break
    return taken


def short_form(problems: Sequence[Problem]) -> list[str]:
    """One line per problem, for the output of a run."""
    return [f"{str(found)[0].upper()}{str(found)[1:]}" for found in problems]


def refuse_pointless(problems: Sequence[Problem], origin: str) -> None:
    """Raise a ``DataError`` if any problem makes training pointless."""
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
                "all rows are identical" if same else "the same as an earlier row",
                [numbers[i] for i in seen.exact],
                "Keep one of them and train more epochs (--num-train-epochs)."
                if same
                else "Remove the copies, unless these rows should count more.",
                _same_as(seen.exact[0], seen, numbers),
                stops=same,
            )
        )
    if seen.near:
        what = "nearly the same as another row"
        fix = "Check them: near copies count more and add little."
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
            f"different answers to the same prompt ({len(several):,} "
            f"prompt{'s' if len(several) > 1 else ''})",
            places,
            "Keep the right answer, or make the prompts differ.",
            repr(hide_secrets(prompt)[:40]),
        )
    ]


def _asked(row: Row) -> tuple[tuple[str, ...] | None, str]:
    """Everything before the last answer, and that answer; (None, "") for rows without one."""
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
        fix = "Add the answer, or remove the last question: it is not trained on."
        found.append(problem("ends with a question that has no answer", ends, fix))
    if twice:
        fix = "Join these turns, or add the missing one."
        found.append(problem("consecutive turns of the same role", twice, fix))
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


def _control_problems(
    rows: Sequence[Row], numbers: Sequence[int], control: ControlTokens
) -> list[Problem]:
    found = {
        n: token for n, row in zip(numbers, rows, strict=False) if (token := spelled(row, control))
    }
    if not found:
        return []
    fix = (
        "They are trained as ordinary text, not as control tokens. If the tokens are meant: "
        "--control-tokens tokens"
    )
    shown = next(iter(found.values()))
    return [problem("text that spells a control token", list(found), fix, repr(shown))]


def spelled(row: Row, control: ControlTokens) -> str | None:
    """The first control token that a row spells, in whatever part of it."""
    parts = [_all_text(row)]
    if isinstance(row, Chat):
        parts += [str(dict(message.extra)) for message in row.messages if message.extra]
        parts += [str(part) for part in (*row.tools, *row.documents)]
    return next((token for part in parts if (token := control.find(part))), None)


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
    fix = "Fine if intended; otherwise the model may answer in the wrong language."
    what = "in a different language from most rows"
    return [problem(what, places, fix, counts + (f" of every {step}th row" if step > 1 else ""))]
