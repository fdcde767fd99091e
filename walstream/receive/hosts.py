"""Several addresses in one connection string: the next one before giving up.

The same rule as the receiver's for its sessions, for what is asked once: a server that is not the
right one, or refuses us, is no reason to stop while there is another.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from walstream.errors import WalstreamError
from walstream.receive.receiver import OF_THE_SERVER
from walstream.replication.addresses import connect_timeout, resolve
from walstream.replication.connecting import none_would_do
from walstream.replication.libpq import CONNECT_TIMEOUT_S, ReplicationConnection, connect_to

log = logging.getLogger("walstream")

T = TypeVar("T")


async def with_first_that_will_do(
    conninfo: str,
    ask: Callable[[ReplicationConnection], Awaitable[T]],
    *,
    receive_timeout_s: float,
    application_name: str = "walstream",
) -> T:
    """Returns what ``ask`` returns for the first address at which it raises nothing.

    Raises:
        ConnectionLost, ServerRefused, ProtocolError, StoreError: no address will do; the message
            tells what each one said.
        WalstreamError: what else ``ask`` raises, at once.

    Cancellation: the connection is closed.
    """
    timeout_s = connect_timeout(conninfo, CONNECT_TIMEOUT_S, receive_timeout_s)
    attempts = await resolve(
        conninfo,
        application_name=application_name,
        timeout_s=timeout_s,
        receive_timeout_s=receive_timeout_s,
    )
    problems: list[tuple[str, WalstreamError]] = []
    for number, attempt in enumerate(attempts):
        try:
            connection = await connect_to(
                attempt, connect_timeout_s=timeout_s, receive_timeout_s=receive_timeout_s
            )
            with connection:
                return await ask(connection)
        except OF_THE_SERVER as exc:
            problems.append((attempt.name, exc))
            if number + 1 < len(attempts):
                log.warning("%s: %s; trying the next address", attempt.name, exc)
    raise none_would_do(problems)
