"""One question to several addresses: the next one is asked until one will do."""

from __future__ import annotations

import pytest

from tests.receive.test_upstreams import fake, hosts, serving, written
from tests.support.fake_walsender import FakeWalsender
from walstream.errors import ConnectionLost, ServerRefused, StoreError, WriteError, WrongCluster
from walstream.receive.hosts import with_first_that_will_do
from walstream.replication.libpq import ReplicationConnection


class Question:
    """Asks for the system identifier; ``answers`` are raised at the first addresses."""

    def __init__(self, *answers: Exception) -> None:
        self.answers = list(answers)
        self.asked: list[ReplicationConnection] = []

    async def __call__(self, connection: ReplicationConnection) -> str:
        self.asked.append(connection)
        if self.answers:
            raise self.answers.pop(0)
        return "the answer"


async def ask(question: Question, *servers: FakeWalsender) -> str:
    return await with_first_that_will_do(hosts(*servers), question, receive_timeout_s=10)


def servers(*faults: dict[str, str]) -> list[FakeWalsender]:
    wal = written(1)
    return [fake(wal, faults=fault) for fault in faults]


async def test_the_first_that_will_do_is_the_only_one_asked() -> None:
    first, second = servers({}, {})
    question = Question()
    async with serving(first, second):
        assert await ask(question, first, second) == "the answer"
    assert (first.connections, second.connections) == (1, 0)


@pytest.mark.parametrize(
    "problem",
    [ConnectionLost("cut"), ServerRefused("no slot", "42704"), WrongCluster("of another cluster")],
    ids=lambda problem: type(problem).__name__,
)
async def test_an_answer_that_will_not_do(
    problem: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = servers({}, {})
    question = Question(problem)
    async with serving(first, second):
        assert await ask(question, first, second) == "the answer"
    assert (first.connections, second.connections) == (1, 1)
    assert f"{problem}; trying the next address" in caplog.text
    assert question.asked[0] is not question.asked[1]


async def test_an_address_that_refuses_us() -> None:
    first, second = servers({"login": "53300"}, {})
    question = Question()
    async with serving(first, second):
        assert await ask(question, first, second) == "the answer"
    assert len(question.asked) == 1


async def test_none_will_do(caplog: pytest.LogCaptureFixture) -> None:
    """All are told of; there is no next address behind the last one."""
    first, second = servers({}, {})
    question = Question(ServerRefused("no slot", "42704"), StoreError("other sizes"))
    async with serving(first, second):
        with pytest.raises((ServerRefused, StoreError)) as caught:
            await ask(question, first, second)
    assert "no slot" in str(caught.value)
    assert "other sizes" in str(caught.value)
    assert caplog.text.count("trying the next address") == 1


async def test_what_is_not_the_servers_ends_it_at_once() -> None:
    first, second = servers({}, {})
    async with serving(first, second):
        with pytest.raises(WriteError):
            await ask(Question(WriteError("disk", "store/wal")), first, second)
    assert second.connections == 0
