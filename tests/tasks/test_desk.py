"""Questions that wait are answered together; one that is given up costs the others nothing."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import outcome
import pytest
import trio
import trio.testing

from walstream.tasks.desk import MOST, Desk


class Answers:
    """Halves numbers; the first group waits until it may go on."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.go_on = threading.Event()
        self.desk = Desk(self.answer)

    def answer(self, questions: Sequence[int]) -> list[outcome.Outcome[int]]:
        self.groups.append(list(questions))
        assert self.go_on.wait(60)
        if -1 in questions:
            raise ValueError("the whole group")
        return [outcome.capture(_half, question) for question in questions]


def _half(number: int) -> int:
    if number % 2:
        raise KeyError(number)
    return number // 2


async def test_those_that_wait_are_answered_together() -> None:
    answers = Answers()
    found = {}

    async def ask(number: int) -> None:
        found[number] = await answers.desk.ask(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, 0)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(2, 2 * MOST + 6, 2):
            nursery.start_soon(ask, number)
        await trio.testing.wait_all_tasks_blocked()
        answers.go_on.set()
    assert [len(group) for group in answers.groups] == [1, MOST, 2]
    assert found == {number: number // 2 for number in range(0, 2 * MOST + 6, 2)}


async def test_each_gets_what_its_question_has_come_to() -> None:
    answers = Answers()

    async def ask(number: int) -> None:
        if number % 2:
            with pytest.raises(KeyError):
                await answers.desk.ask(number)
        else:
            assert await answers.desk.ask(number) == number // 2

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(ask, number)
        await trio.testing.wait_all_tasks_blocked()
        answers.go_on.set()


async def test_what_fails_for_all_is_raised_in_all_of_that_group_only() -> None:
    answers = Answers()
    answers.go_on.set()

    with pytest.raises(ValueError, match="the whole group"):
        await answers.desk.ask(-1)
    assert await answers.desk.ask(4) == 2


async def test_a_question_that_waits_is_given_up_at_once() -> None:
    answers = Answers()

    async def ask(number: int) -> None:
        assert await answers.desk.ask(number) == number // 2

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, 0)
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as impatient:
            impatient.start_soon(ask, 2)
            await trio.testing.wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
        nursery.start_soon(ask, 4)
        await trio.testing.wait_all_tasks_blocked()
        answers.go_on.set()
    assert answers.groups == [[0], [4]]


async def test_one_that_the_thread_has_is_waited_for() -> None:
    answers = Answers()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answers.desk.ask, 0)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
            assert nursery.child_tasks
            answers.go_on.set()
    assert await answers.desk.ask(6) == 3
    assert answers.groups == [[0], [6]]
