"""The states of all random generators that a run may use: torch's, CUDA's, Python's and NumPy's."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def random_states() -> dict[str, torch.Tensor]:
    """The states as tensors, by name; ``restore_random_states`` sets them again."""
    import numpy
    import torch

    _, words, _ = random.getstate()  # 624 words and an index; the rest only matters to gauss()
    of_numpy: Any = numpy.random.get_state(legacy=False)["state"]
    states = {
        "cpu": torch.get_rng_state(),
        "python": torch.tensor(words, dtype=torch.int64),
        "numpy": torch.tensor([*of_numpy["key"].tolist(), of_numpy["pos"]]),
    }
    if torch.cuda.is_available():
        cuda = enumerate(torch.cuda.get_rng_state_all())
        states |= {f"cuda{device}": state for device, state in cuda}
    return states


def restore_random_states(states: Mapping[str, torch.Tensor]) -> None:
    """Continue with the numbers that would have been drawn when ``random_states`` was called."""
    import numpy
    import torch

    torch.set_rng_state(states["cpu"])
    random.setstate((3, tuple(states["python"].tolist()), None))
    *keys, place = states["numpy"].tolist()
    numpy.random.set_state(("MT19937", numpy.array(keys, dtype=numpy.uint32), place, 0, 0.0))
    for name, state in states.items():
        if name.startswith("cuda") and int(name[4:]) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state, int(name[4:]))


@contextmanager
def untouched_random_states() -> Iterator[None]:
    """Restore the random states on leaving, whatever was drawn inside the block."""
    states = random_states()
    try:
        yield
    finally:
        restore_random_states(states)
