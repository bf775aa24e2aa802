"""What only a settings file asks for. Such a file may be somebody else's, so it is no wish of the
person who runs a command on it; what they typed, or passed in Python, is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorita.settings.schema import RunSettings

FROM_FILE = "settings file"
"""Under this name ``RunSettings.given`` returns the ``FileWishes``."""


@dataclass(frozen=True)
class FileWishes:
    """A settings file: ``digest`` is of all that it says, ``options`` are those that only it names.

    Options that were also typed are not among them.
    """

    path: Path
    digest: str
    options: frozenset[str]

    def without(self, typed: Collection[str]) -> FileWishes:
        """The same, once the options in ``typed`` have been typed."""
        return replace(self, options=self.options.difference(typed))


def digest_of(values: Mapping[str, Any]) -> str:
    """A hash of what a settings file says; its comments and the order of its lines do not count."""
    text = repr(sorted((name, repr(value)) for name, value in values.items()))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def file_wish(settings: RunSettings, name: str) -> FileWishes | None:
    """The settings file, if only it asks for the option; None if a person did, or nobody."""
    file: FileWishes | None = settings.given(FROM_FILE)
    return file if file and name in file.options and getattr(settings, name) else None


def as_typed(settings: RunSettings, **values: Any) -> RunSettings:
    """A copy of the settings with these values, as if a person had typed them."""
    copy = settings.model_copy(update=values)
    file: FileWishes | None = settings.given(FROM_FILE)
    if file is not None:
        copy.hold({FROM_FILE: file.without(values)})
    return copy
