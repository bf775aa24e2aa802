"""Why a request about files and jobs is not done."""

from __future__ import annotations


class Refused(Exception):
    """A request that cannot be done. ``param`` is its part at fault, ``code`` for programs."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param, self.code = param, code


class Missing(Refused):
    """There is no file or job of this id."""


class Conflict(Refused):
    """It cannot be done in the state in which the file or job is now."""


class QueueFull(Refused):
    """As many jobs as are allowed are not finished yet."""
