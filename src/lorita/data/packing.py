"""Rows put together into windows of a fixed size, for corpora whose rows differ much in length.

A window is what a step counts instead of a row: steps are then equally large. Attention never
crosses from one row into the next, and no row is cut to fill a window: rows go, the longest first,
into the window that they leave the least room in (best fit decreasing; Ding et al., "Fewer
Truncations Improve Language Modeling", 2024). Long texts have been split before.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence


def fill_windows(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Windows of at most ``size`` tokens: the places of their rows, each place once.

    Depends on nothing but its arguments. A row longer than ``size`` is a window of its own.
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
    # In the order of the data: the shuffle of an epoch is the seed's affair.
    return sorted(sorted(window) for window in windows)


def packing_note(windows: Sequence[Sequence[int]], lengths: Sequence[int], size: int) -> str:
    """How many windows there are, and how full."""
    return (
        f"packing: {len(lengths):,} rows in {len(windows):,} windows of {size:,} tokens, "
        f"{sum(lengths) / (len(windows) * size):.1%} full; a batch counts windows"
    )
