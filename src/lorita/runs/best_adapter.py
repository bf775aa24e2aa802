"""The adapter that a run keeps where the held-out loss decides: the best, not the last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lorita.training.checkpoint import restore_weights
from lorita.training.events import BestKept, Event, Note

if TYPE_CHECKING:
    from pathlib import Path

    from peft import PeftModel

    from lorita.training.loss_watch import Watch


def keep_best(
    watch: Watch, model: PeftModel, folders: Sequence[Path], *, last: int
) -> Iterator[Event]:
    """Load the adapter with the lowest held-out loss, if it is not that of the ``last`` step.

    Its checkpoint is in one of ``folders``, those of the run and of the run that it continues.
    """
    step, loss = watch.best
    if step == 0:
        return
    if step != last:
        places = [folder / f"checkpoint-{step}" for folder in folders]
        place = next((place for place in places if place.exists()), places[0])
        try:
            restore_weights(place, model)
        except (OSError, ValueError) as error:
            text = f"the best adapter cannot be read, so the last one is kept: {place}: {error}"
            yield Note(text, is_warning=True)
            return
    yield BestKept(step, loss)
