"""Regular expressions that choose layers: none is used before it is known to come to an end.

Python's engine can take for ever on a few characters, and cannot be interrupted. Patterns come from
adapters and settings of others, and PEFT matches them itself. So each is tried first, in the form
PEFT uses, on the names of this model's layers, in a process that can be ended.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lorita.errors import AdapterError

MOST_SECONDS = 5.0
"""Time for all patterns on all layers; ordinary ones take some thousandths of a second."""
LONGEST = 10_000
"""Characters of a pattern."""
_REPEATS = re.compile(r"[*+?{|]")
_FORMS = {
    "target_modules": "(?:{})$",
    "exclude_modules": "(?:{})$",
    "rank_pattern": r"(.*\.)?({})$",
    "alpha_pattern": r"(.*\.)?({})$",
    "modules_to_save": r"(^|.*\.){}($|\..*)",
    "layers_pattern": r"(?:^|.*?\.){}\.(?P<idx>\d+)\.",
}
"""How PEFT reads the patterns of each option."""
_TRY = """
import json, re, sys
forms, names = json.load(sys.stdin)
for form in forms:
    try:
        pattern = re.compile(form)
    except (re.error, RecursionError, OverflowError):
        pattern = None
    for name in names if pattern else ():
        pattern.match(name)
    print(flush=True)
"""


def require_quick(where: str, options: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise ``AdapterError`` for a pattern in ``options`` that takes too long on these ``names``.

    Patterns without repetition cannot, and are not tried. Invalid ones are left to others.
    """
    found = list(_patterns(options))
    for option, pattern in found:
        if len(pattern) > LONGEST:
            raise AdapterError(f"{where}{option}: a pattern of more than {LONGEST:,} characters")
    if not found:
        return
    forms = [_FORMS[option].replace("{}", pattern) for option, pattern in found]
    try:
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", _TRY],
            input=json.dumps([forms, list(names)]).encode(),
            capture_output=True,
            timeout=MOST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        option, pattern = found[min((error.stdout or b"").count(b"\n"), len(found) - 1)]
        raise AdapterError(
            f"{where}{option} {pattern!r} takes more than {MOST_SECONDS:.0f} seconds to match the "
            "names of this model's layers",
            hint="Write it without repetitions inside repetitions, or list the names.",
        ) from None


def _patterns(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each pattern that repeats something, with its option."""
    for option in _FORMS:
        value = options.get(option)
        several = option not in ("target_modules", "exclude_modules")
        listed = value if several and isinstance(value, (list, tuple, set, dict)) else [value]
        for pattern in listed:
            if isinstance(pattern, str) and _REPEATS.search(pattern):
                yield option, pattern
