"""How often rows are seen: partial batches are counted as what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorita.runs.memory_plan import Micro
from lorita.runs.prepare import prepare
from lorita.runs.training_setup import make_pace
from lorita.settings.build import build_settings
from lorita.training.forecast import count_work
from tests import tiny


@pytest.mark.parametrize(
    ("options", "processes", "epochs"),
    [
        ({"num_train_epochs": 6}, 1, 6.0),
        ({"num_train_epochs": 6, "gradient_accumulation_steps": 3}, 1, 6.0),
        ({"num_train_epochs": 6}, 4, 6.0),
        ({"num_train_epochs": 6, "packing": True, "max_length": 64}, 1, 6.0),
        ({"num_train_epochs": 5.5}, 1, 5 + 24 / 36),
        ({"max_steps": 5}, 1, 1.0),
        ({"max_steps": 32, "num_train_epochs": 1}, 1, 6 + 16 / 36),
        ({"max_steps": 3, "per_device_train_batch_size": 100}, 1, 3.0),
    ],
)
def test_epochs(
    options: dict[str, Any], processes: int, epochs: float, llama: Path, tmp_path: Path
) -> None:
    """36 rows in batches of 8: the fifth has four rows."""
    data = tiny.write_csv(tmp_path / "rows.csv", [f"I act as number {i}." for i in range(36)])
    settings = build_settings(
        model=str(llama), data=str(data), text_field="prompt", eval_fraction=0,
        **{"per_device_train_batch_size": 8} | options,
    )  # fmt: skip
    prepared = prepare(settings, writes=False)
    pace = make_pace(settings, prepared, Micro(1000, False), processes)
    work = count_work(prepared.data.train, [], pace)
    assert work.epochs == pytest.approx(epochs)
