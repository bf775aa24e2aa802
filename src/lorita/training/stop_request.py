"""Stopping a run cleanly: Ctrl-C, SIGTERM and SIGHUP."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from lorita.system.processes import in_group
from lorita.system.signals import stop_signals

if TYPE_CHECKING:
    from accelerate import Accelerator

LAUNCHER = 10.0
"""Seconds in which the signals to several processes are one: launcher and terminal send their own,
and the process that saves the checkpoint must come to its end."""


class StopRequest:
    """Turns the first signal into a request that the loop honours between micro-batches.

    A second one raises ``KeyboardInterrupt`` at once. Only the main thread can receive signals;
    elsewhere (a web server, some notebooks), call ``request()``.
    """

    def __init__(self) -> None:
        self.requested = False
        self._by: int | None = None
        self._at = 0.0
        self._previous: dict[int, object] = {}

    def request(self) -> None:
        """Ask the loop to save a checkpoint and stop."""
        self.requested = True

    def agreed(self, accelerator: Accelerator) -> bool:
        """Whether to stop now: if any of several processes is asked to, all of them do."""
        if accelerator.num_processes == 1:
            return self.requested
        import torch

        asked = torch.tensor(float(self.requested), device=accelerator.device)
        return bool(accelerator.reduce(asked, reduction="sum") > 0)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and not (in_group() and time.monotonic() - self._at < LAUNCHER):
            raise KeyboardInterrupt
        if not self.requested:
            self.requested, self._by, self._at = True, number, time.monotonic()

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in stop_signals():
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if kind is None and self._by is not None:
            signal.raise_signal(self._by)  # nobody has honoured it: for whoever comes next
