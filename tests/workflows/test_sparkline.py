"""The curve in the progress line."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from lorita.workflows.sparkline import sparkline


@pytest.mark.parametrize(("values", "drawn"), [
    ([], ""), ([3.0], ""), ([2.0, 1.0], "█▁"), ([1.0, 1.0, 1.0], "▁▁▁"),
    ([8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], "█▇▆▅▄▃▂▁"),
    ([1e300, 0.0], "█▁"),
])  # fmt: skip
def test_what_is_drawn(values: list[float], drawn: str) -> None:
    assert sparkline(values) == drawn


@pytest.mark.parametrize("count", [2, 11, 12, 13, 1000, 4321])
def test_a_long_run_fits_and_falls(count: int) -> None:
    drawn = sparkline([float(count - i) for i in range(count)])
    assert cell_len(drawn) == min(count, 12)
    assert list(drawn) == sorted(drawn, reverse=True)
