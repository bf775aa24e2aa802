"""Pack rows into windows of a fixed size, for corpora whose rows vary widely in length.

A step then counts windows instead of rows, so that all steps are about equally large. Attention
never crosses from one row into the next, and no row is cut to fill a window: each row, longest
first, goes into the window in which it leaves the least room (best fit decreasing; Ding et al.,
"Fewer Truncations Improve Language Modeling", 2024). Long texts have been split before.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence


def fill_windows(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Windows of at most ``size`` tokens, each a list of row indices; every row is in one window.

    Deterministic. A row longer than ``size`` gets a window of its own.
    """
    windows: list[list[int]] = []
    rooms: list[int] = []
    by_room: dict[int, list[int]] = {}
    for place in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[place]
        found = bisect_left(rooms, length)
        if found < len(rooms):
            room = rooms[found]
            number = by_room[room].pop()
            if not by_room[room]:
                rooms.pop(found)
            windows[number].append(place)
        else:
            room, number = max(size, length), len(windows)
            windows.append([place])
        left = room - length
        if not by_room.get(left):
            insort(rooms, left)
        by_room.setdefault(left, []).append(number)
    # In data order: shuffling is left to each epoch's seed.
    return sorted(sorted(window) for window in windows)


def packing_note(windows: Sequence[Sequence[int]], lengths: Sequence[int], size: int) -> str:
    """A sentence on how many windows there are and how full they are."""
    return (
        f"packing: {len(lengths):,} rows in {len(windows):,} windows of {size:,} tokens, "
        f"{sum(lengths) / (len(windows) * size):.1%} full; batch sizes count windows"
    )
