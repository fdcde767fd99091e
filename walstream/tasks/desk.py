"""Questions that are answered in a thread, all that wait at once.

A thread costs two wake-ups, whatever it does. So one that is started takes all the questions that
wait, and those that come meanwhile wait for the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import outcome
import trio

Q = TypeVar("Q")
A = TypeVar("A")

# So many questions are taken at once; more would make the first wait for the last.
MOST = 64


class _Slot(Generic[Q, A]):
    """A question and the task that asks it; None: it does not wait any more."""

    __slots__ = ("question", "taken", "task")

    def __init__(self, question: Q, task: trio.lowlevel.Task) -> None:
        self.question = question
        self.task: trio.lowlevel.Task | None = task
        self.taken = False

    def abort(self, _: object) -> trio.lowlevel.Abort:
        if self.taken:
            # As a thread that cannot be interrupted: its files may not be closed under it.
            return trio.lowlevel.Abort.FAILED
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED


class Desk(Generic[Q, A]):
    """Answers questions, at most one thread at a time.

    Args:
        answer: called in the thread with some questions; returns what each has come to.
    """

    def __init__(self, answer: Callable[[Sequence[Q]], Sequence[outcome.Outcome[A]]]) -> None:
        self._answer = answer
        self._waiting: list[_Slot[Q, A]] = []
        self._busy = False

    async def ask(self, question: Q) -> A:
        """Returns the answer, or raises what it has come to.

        Cancellation: a question that the thread has not taken is forgotten; else the answer is
        waited for, and dropped.
        """
        slot = _Slot[Q, A](question, trio.lowlevel.current_task())
        self._waiting.append(slot)
        if not self._busy:
            self._start()
        answer: A = await trio.lowlevel.wait_task_rescheduled(slot.abort)
        return answer

    def _start(self) -> None:
        waiting = [slot for slot in self._waiting if slot.task is not None]
        taken, self._waiting = waiting[:MOST], waiting[MOST:]
        if not taken:
            return
        self._busy = True
        for slot in taken:
            slot.taken = True
        token = trio.lowlevel.current_trio_token()
        questions = [slot.question for slot in taken]

        def deliver(answers: outcome.Outcome[Sequence[outcome.Outcome[A]]]) -> None:
            token.run_sync_soon(self._hand_out, taken, answers)

        trio.lowlevel.start_thread_soon(lambda: self._answer(questions), deliver)

    def _hand_out(
        self,
        taken: Sequence[_Slot[Q, A]],
        answers: outcome.Outcome[Sequence[outcome.Outcome[A]]],
    ) -> None:
        self._busy = False
        each: Sequence[outcome.Outcome[A]]
        if isinstance(answers, outcome.Value):
            each = answers.value
        else:
            assert isinstance(answers, outcome.Error)
            each = [answers] * len(taken)
        for slot, answer in zip(taken, each, strict=True):
            assert slot.task is not None
            trio.lowlevel.reschedule(slot.task, answer)
        self._start()
