"""An executor whose thread gets on by one pause at a time: every interleaving can be tried."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any


class _Job(Future[Any]):
    """Its ``result`` is what waits: whoever asks for it lets the job run to its end."""

    def __init__(self, executor: Stepwise) -> None:
        super().__init__()
        self._executor = executor

    def result(self, timeout: float | None = None) -> Any:
        self._executor.step(1 << 20)
        return super().result(timeout)


class Stepwise(Executor):
    """Runs one job in a thread, from ``pause`` to ``pause``, while its owner is in ``step``.

    Only one of the two threads ever runs, so what happens is the same each time.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._go_on = threading.Semaphore(0)
        self._paused = threading.Semaphore(0)
        self._killed: BaseException | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        assert self._thread is None, "one job at a time"
        job = _Job(self)

        def run() -> None:
            self._go_on.acquire()
            try:
                self._end_if_killed()
                result = fn(*args, **kwargs)
            except BaseException as exc:  # noqa: ASYNC103 (the future raises it)
                job.set_exception(exc)
            else:
                job.set_result(result)
            self._thread = None
            self._paused.release()

        self._thread = threading.Thread(target=run)
        self._thread.start()
        return job

    def is_inside(self) -> bool:
        """Whether the job asks."""
        return threading.current_thread() is self._thread

    def pause(self) -> None:
        """Called by the job: waits for the next step."""
        self._paused.release()
        self._go_on.acquire()
        self._end_if_killed()

    def _end_if_killed(self) -> None:
        if self._killed is not None:
            raise self._killed

    def step(self, steps: int) -> None:
        """Lets the job get on to its next pauses, or to its end."""
        while steps and self._thread is not None:
            steps -= 1
            self._go_on.release()
            self._paused.acquire()

    def kill(self, error: BaseException) -> None:
        """Ends the job where it is: ``error`` is raised there."""
        self._killed = error
        while self._thread is not None:
            self._go_on.release()
            self._paused.acquire()
        self._killed = None
