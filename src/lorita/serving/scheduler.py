"""Requests that are answered together: they join and leave between two tokens.

One thread owns the model. Requests are begun in the order in which they came; each step adds a
token to every open text, whichever adapter it uses. Where a writer is replaced, because adapters
came, its texts are written to their end beside the new one's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from lorita.serving.api_errors import ApiError, failed, queue_full, shutting_down, timed_out

if TYPE_CHECKING:
    from lorita.engine.decoding.writer import Request, Text
    from lorita.inference.one_at_a_time import TextWriter

PREFILL_TOKENS = 1024
"""Prompts that are begun together have no more tokens than this; a single one may."""
T = TypeVar("T")
log = logging.getLogger("lorita.serving")


class Job(Protocol):
    """One text that somebody waits for. Its methods are called in the scheduler's thread."""

    cancelled: bool

    def request(self) -> Request:
        """The text to write; made anew each time, for a text may have to begin again."""
        ...

    def add(self, token: int) -> bool:
        """Take a token; whether the text is to end here."""
        ...

    def end(self) -> None:
        """The text is finished."""
        ...

    def fail(self, error: ApiError) -> None:
        """The text will not be finished."""
        ...


class _Waiting:
    """A job, until when it may take, and what is asked of the writer for it."""

    def __init__(self, job: Job, deadline: float) -> None:
        self.job, self.deadline = job, deadline
        self.request = job.request()


class Scheduler:
    """Writes the texts of jobs with the writers that ``make_writer`` makes.

    ``most_waiting`` jobs wait at most, ``timeout`` are the seconds that each may take, and
    ``cache_bytes`` what the keys and values of open texts may take (None: anything).
    """

    def __init__(
        self,
        make_writer: Callable[[], TextWriter],
        *,
        most_waiting: int,
        timeout: float,
        cache_bytes: int | None = None,
    ) -> None:
        self._make_writer, self._writer = make_writer, None
        self._older: list[TextWriter] = []
        self._most_waiting, self.timeout, self._most_bytes = most_waiting, timeout, cache_bytes
        self._waiting: deque[_Waiting] = deque()
        self._open: dict[int, tuple[_Waiting, Text, TextWriter]] = {}
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="lorita-scheduler", daemon=True)
        self._thread.start()

    _writer: TextWriter | None

    @property
    def waiting(self) -> int:
        """How many texts have not begun."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many texts are being written."""
        return len(self._open)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Let the jobs wait for their turn, all or none; ``ApiError`` if too many wait already."""
        deadline = time.monotonic() + self.timeout
        asked = [_Waiting(job, deadline) for job in jobs]
        with self._changed:
            if self._stopping:
                raise shutting_down()
            if self._waiting and len(self._waiting) + len(asked) > self._most_waiting:
                raise queue_full(len(self._waiting), 1 + len(self._waiting) // 8)
            self._waiting += asked
            self._changed.notify()

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run a function that changes the model, in the scheduler's thread, between two tokens."""
        future: Future[T] = Future()
        with self._changed:
            if self._stopping:
                future.set_exception(shutting_down())
                return future
            self._calls.append((function, future))
            self._changed.notify()
        return future

    def renew(self) -> None:
        """From now on, texts are begun with a new writer. For functions given to ``call``."""
        if self._writer is not None and self._writer.open:
            self._older.append(self._writer)
        self._writer = None

    def wake(self) -> None:
        """Look for jobs that were cancelled."""
        with self._changed:
            self._changed.notify()

    def stop(self) -> None:
        """End: open and waiting texts fail."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._open or self._calls or self._stopping):
                    self._changed.wait()
                if self._stopping:
                    break
            self._drop_lost()
            self._do_calls()
            if not self._calls:
                self._admit()
            for writer in [w for w in (*self._older, self._writer) if w is not None and w.open]:
                self._step(writer)
            self._older = [writer for writer in self._older if writer.open]
            if self._writer is not None and not self._open:
                self._writer.forget()
        self._end_all()

    def _end_all(self) -> None:
        for asked, text, writer in list(self._open.values()):
            writer.leave(text)
            asked.job.fail(shutting_down())
        self._open.clear()
        with self._changed:
            for asked in self._waiting:
                asked.job.fail(shutting_down())
            self._waiting.clear()
            for _, future in self._calls:
                future.set_exception(shutting_down())

    def _drop_lost(self) -> None:
        """Forget cancelled jobs, and fail those whose time is over."""
        now = time.monotonic()
        with self._changed:
            lost = [w for w in self._waiting if w.job.cancelled or now > w.deadline]
            for asked in lost:
                self._waiting.remove(asked)
        for key, (asked, text, writer) in list(self._open.items()):
            if asked.job.cancelled or now > asked.deadline:
                writer.leave(text)
                del self._open[key]
                lost.append(asked)
        for asked in lost:
            if not asked.job.cancelled:
                asked.job.fail(timed_out(self.timeout))

    def _do_calls(self) -> None:
        """Do what was asked for; a writer that runs the model itself must be idle for it."""
        from lorita.inference.one_at_a_time import OneAtATime

        if any(isinstance(writer, OneAtATime) for _, _, writer in self._open.values()):
            return
        while self._calls:
            function, future = self._calls.popleft()
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

    def _admit(self) -> None:
        """Begin as many of the jobs that wait as there is room for, in their order."""
        if not self._waiting:
            return
        if self._writer is None:
            try:
                self._writer = self._make_writer()
            except Exception as error:
                self._fail(list(self._waiting), error)
                self._waiting.clear()
                return
        writer = self._writer
        joining: list[_Waiting] = []
        with self._changed:
            while self._waiting and self._fits(writer, joining, self._waiting[0]):
                joining.append(self._waiting.popleft())
        if not joining:
            return
        try:
            texts = writer.prefill([asked.request for asked in joining])
        except Exception as error:
            self._broken(writer, error, joining)
            return
        for asked, text in zip(joining, texts, strict=True):
            self._open[id(text)] = (asked, text, writer)
        self._pass_on([text for text in texts if text.tokens])  # llama.cpp's come later

    def _fits(self, writer: TextWriter, joining: Sequence[_Waiting], asked: _Waiting) -> bool:
        if writer.room <= len(joining):
            return False
        alone = not joining and not self._open
        tokens = sum(len(other.request.prompt) for other in joining) + len(asked.request.prompt)
        if joining and tokens > PREFILL_TOKENS:
            return False
        if alone or self._most_bytes is None:
            return True
        together = [*(other.request for other in joining), asked.request]
        return writer.cache_bytes(together) <= self._most_bytes

    def _step(self, writer: TextWriter) -> None:
        try:
            texts = writer.step()
        except Exception as error:
            self._broken(writer, error, [])
        else:
            self._pass_on(texts)

    def _pass_on(self, texts: Sequence[Text]) -> None:
        for text in texts:
            asked, _, writer = self._open[id(text)]
            try:
                enough = asked.job.add(text.tokens[-1])
            except Exception as error:
                writer.leave(text)
                del self._open[id(text)]
                self._fail([asked], error)
                continue
            if enough or text.finished:
                writer.leave(text)
                del self._open[id(text)]
                asked.job.end()

    def _broken(self, writer: TextWriter, error: Exception, joining: Sequence[_Waiting]) -> None:
        """A step failed: its texts fail, and the next ones are begun with a new writer."""
        lost = list(joining)
        for key, (asked, text, other) in list(self._open.items()):
            if other is writer:
                writer.leave(text)
                del self._open[key]
                lost.append(asked)
        if writer is self._writer:
            self._writer = None
        self._fail(lost, error)

    def _fail(self, lost: Sequence[_Waiting], error: Exception) -> None:
        from lorita.errors import LoritaError
        from lorita.system.memory import is_out_of_memory

        # Messages of other libraries may hold what users wrote, and are not logged.
        said = str(error) if isinstance(error, LoritaError) else type(error).__name__
        log.error("%d answers failed: %s", len(lost), said)
        if is_out_of_memory(error):
            answer = failed("There is not enough memory for this answer.")
        else:
            answer = failed(said) if isinstance(error, LoritaError) else failed()
        for asked in lost:
            asked.job.fail(answer)
