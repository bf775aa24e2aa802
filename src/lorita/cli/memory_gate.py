"""Whether a command's libraries fit in memory, before any of them is imported.

What a model takes beside them is reckoned later, from its sizes (``lorita.models.memory_needs``).
"""

from __future__ import annotations

from lorita.errors import UserError
from lorita.system.memory import gigabytes, room, save_addresses

_TRAINS, _ANSWERS = 500_000_000, 350_000_000
LIBRARIES = {
    **dict.fromkeys(("demo", "train", "sweep", "evaluate"), _TRAINS),
    "plan": 700_000_000,  # it also sends a few tokens through a model of zeros
    **dict.fromkeys(("targets", "generate", "chat", "compare", "merge", "export"), _ANSWERS),
    "preview": _ANSWERS,
    **dict.fromkeys(("serve", "studio"), _ANSWERS),
    "doctor": 250_000_000,
}
"""Bytes that the libraries of a command take, measured: torch, transformers, PEFT, datasets."""
ADDRESSES = 2
"""How many times as much they map as they use."""


def require_libraries(command: str) -> None:
    """Raise ``UserError`` where the libraries of ``command`` do not fit.

    Otherwise keeps them from reserving more than they need.
    """
    here, needs = room(), LIBRARIES.get(command, 0)
    if here is None:
        return
    save_addresses()
    if here.counts_mapped_files:
        needs *= ADDRESSES
    if needs > here.free:
        raise UserError(
            f"lorita {command} needs about {gigabytes(needs)} of memory before it loads any model, "
            f"and {here.limit} {gigabytes(here.allowed)}",
            hint="Allow more memory, or close what else runs here.",
        )
