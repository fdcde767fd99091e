"""Connection strings: what libpq makes of one, and the addresses to try for it.

libpq resolves host names while it connects, and blocks for that. So host names are resolved here,
by Trio, and each address is tried by a connection string of its own. Where hosts come from (the
string, the environment, a service file) is for libpq to say; nothing here connects.
"""

from __future__ import annotations

import math
import re
import socket as stdlib_socket
from typing import NamedTuple

import psycopg
import trio
from psycopg import pq

from walstream.errors import ConnectionLost, ServerRefused
from walstream.replication.messages import decode_text, encode_text

ConnInfo = dict[str, str]

_SPECIAL = re.compile(r"[\\']")
_ESCAPED = r"\\\g<0>"

# No sslmode at all: libpq puts all parameters together, then refuses this one and goes no further.
_NO_CONNECTION = "walstream-only-asks"


class Attempt(NamedTuple):
    """One address to try: a libpq connection string and how to name it to people."""

    conninfo: str
    name: str


def parse_conninfo(conninfo: str) -> ConnInfo:
    """Returns the parameters of a libpq connection string or URI.

    Raises:
        ServerRefused: it is not one.
    """
    try:
        options = pq.Conninfo.parse(encode_text(conninfo))
    except psycopg.OperationalError as exc:
        raise ServerRefused(f"connection string: {str(exc).strip()}") from exc
    return {
        decode_text(option.keyword): decode_text(option.val)
        for option in options
        if option.val is not None
    }


def make_conninfo(parameters: ConnInfo) -> str:
    """Returns the connection string of parameters; psycopg's own refuses what is not UTF-8."""
    return " ".join(f"{key}='{_SPECIAL.sub(_ESCAPED, value)}'" for key, value in parameters.items())


def with_parameters(conninfo: str, **parameters: str | None) -> str:
    """Returns a connection string with parameters added or replaced; None leaves one alone.

    Raises:
        ServerRefused: ``conninfo`` is not a connection string.
    """
    merged = parse_conninfo(conninfo)
    merged |= {key: value for key, value in parameters.items() if value is not None}
    return make_conninfo(merged)


def effective_parameters(conninfo: str) -> ConnInfo:
    """Returns the parameters with what libpq adds: service file, environment, defaults.

    Raises:
        ServerRefused: not a connection string, no such service, or hosts and ports do not match.
    """
    asked = make_conninfo({**parse_conninfo(conninfo), "sslmode": _NO_CONNECTION})
    pgconn = pq.PGconn.connect_start(encode_text(asked))
    try:
        message = pgconn.get_error_message()
        if _NO_CONNECTION not in message:
            raise ServerRefused(f"connection string: {' '.join(message.split())}")
        return {
            decode_text(option.keyword): decode_text(option.val)
            for option in pgconn.info
            if option.val and option.keyword != b"sslmode"
        }
    finally:
        pgconn.finish()


def connect_timeout(conninfo: str, default_s: float, receive_timeout_s: float) -> float:
    """Returns the seconds that each address has to answer.

    That is ``connect_timeout`` of the string, else the default or the receive timeout (0: none),
    whichever is shorter.

    Raises:
        ServerRefused: as ``effective_parameters``.
    """
    given = effective_parameters(conninfo).get("connect_timeout", "")
    if given.isdigit() and int(given) > 0:
        return float(given)
    return min(default_s, receive_timeout_s or math.inf)


def probes(receive_timeout_s: float, given: ConnInfo) -> ConnInfo:
    """Returns what makes the kernel notice a dead link by itself, where nobody has said it.

    The receive timeout finds every silence; these find a link that is gone sooner than the
    system's two hours, also while a silent server is waited for on purpose (a checkpoint).
    """
    if not receive_timeout_s:
        return {}
    idle_s = max(1, int(receive_timeout_s / 2))
    wanted = {
        "keepalives_idle": str(idle_s),
        "keepalives_interval": str(max(1, idle_s // 3)),
        "keepalives_count": "3",
        "tcp_user_timeout": str(int(receive_timeout_s * 1000)),
    }
    return {key: value for key, value in wanted.items() if key not in given}


async def _addresses(host: str, port: str, timeout_s: float) -> list[str]:
    with trio.move_on_after(timeout_s):
        infos = await trio.socket.getaddrinfo(
            host, int(port or "5432"), type=stdlib_socket.SOCK_STREAM
        )
        return list(dict.fromkeys(str(info[4][0]) for info in infos))
    raise OSError(f"no answer within {timeout_s:g} s")


async def resolve(
    conninfo: str,
    *,
    application_name: str = "walstream",
    timeout_s: float = math.inf,
    receive_timeout_s: float = 0.0,
) -> list[Attempt]:
    """Returns the addresses that a connection string stands for, in the order to try them.

    ``target_session_attrs=prefer-standby`` becomes two rounds, as in libpq.

    Args:
        timeout_s: for looking up each name.
        receive_timeout_s: for the kernel's own probes, see ``probes``; 0: as the system has them.

    Raises:
        ConnectionLost: no host name could be resolved.
        ServerRefused: as ``effective_parameters``.

    Cancellation: nothing is left behind.
    """
    effective = effective_parameters(conninfo)
    base = {
        "dbname": "replication",
        "fallback_application_name": application_name,
        **probes(receive_timeout_s, effective),
        **parse_conninfo(conninfo),
        "replication": "true",
    }
    hosts = effective.get("host", "").split(",")
    hostaddrs = effective.get("hostaddr", "").split(",")
    ports = effective.get("port", "").split(",")
    count = max(len(hosts), len(hostaddrs))
    hosts, hostaddrs, ports = (
        values * count if len(values) == 1 else values for values in (hosts, hostaddrs, ports)
    )
    plain: list[tuple[ConnInfo, str]] = []
    problems = []
    for host, hostaddr, port in zip(hosts, hostaddrs, ports, strict=True):
        one = dict(base)
        for key, value in (("host", host), ("port", port), ("hostaddr", hostaddr)):
            one.pop(key, None)
            if value:
                one[key] = value
        name = f"{host or hostaddr or 'local'}:{port or 5432}"
        if hostaddr or not host or host.startswith(("/", "@")):
            plain.append((one, name))
            continue
        try:
            found = await _addresses(host, port, timeout_s)
        except (OSError, ValueError) as exc:
            problems.append(f"could not resolve host {host!r}: {exc}")
            continue
        plain += [({**one, "hostaddr": address}, name) for address in found]
    if not plain:
        raise ConnectionLost("; ".join(problems))
    wish = effective.get("target_session_attrs", "any")
    rounds = ("standby", "any") if wish == "prefer-standby" else (wish,)
    return [  # noqa: ASYNC910
        Attempt(make_conninfo({**one, "target_session_attrs": wanted}), name)
        for wanted in rounds
        for one, name in plain
    ]
