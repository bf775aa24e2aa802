"""Every random state that a run may draw from, as tensors: torch's, CUDA's, Python's, NumPy's."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def random_states() -> dict[str, torch.Tensor]:
    """The states by name; ``restore_random_states`` takes them back."""
    import numpy
    import torch

    _, words, _ = random.getstate()  # 624 words and a place; the rest is for gauss() alone
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
    """Go on drawing as when ``random_states`` was called."""
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
    """Whatever is drawn inside is not missed outside."""
    states = random_states()
    try:
        yield
    finally:
        restore_random_states(states)
