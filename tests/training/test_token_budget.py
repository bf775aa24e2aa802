"""How many tokens are computed at once, by the memory that is free."""

from __future__ import annotations

import pytest

from lorita.training.token_budget import LEAST_EXPANDED, token_budget

MB = 10**6


@pytest.mark.parametrize(
    ("free", "plain", "expanded"),
    [
        (None, 1024, 1024),
        (2048 * MB, 1024, 1024),
        (2047 * MB, 512, 512),  # still large enough: half of the memory is left free
        (1024 * MB, 512, 512),
        (1023 * MB, 256, 256),
        (400 * MB, 128, 256),  # 128 tokens would be expanded for twice as often
        (340 * MB, 128, 128),
        (170 * MB, 64, 64),
        (0, 1, 1),
    ],
)
def test_budget(free: int | None, plain: int, expanded: int) -> None:
    assert token_budget(MB, free, 1024) == plain
    assert token_budget(MB, free, 1024, expands=True) == expanded


def test_expanded_weights_get_no_more_than_three_quarters() -> None:
    for free in range(1, 3000, 7):
        budget = token_budget(MB, free * MB, 704, expands=True)
        share = budget / free
        assert budget == 1 or share <= (0.75 if budget < 2 * LEAST_EXPANDED else 0.5)
        assert budget >= token_budget(MB, free * MB, 704)
