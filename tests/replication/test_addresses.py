"""Hosts come from the string, a service file or the environment; resolving never blocks."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.support.servers import PostgresServer
from walstream.errors import ConnectionLost, ServerRefused
from walstream.replication.addresses import resolve
from walstream.replication.libpq import connect


class Resolver(trio.abc.HostnameResolver):
    """Knows a few names; takes its time over one of them."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer = trio.Event()

    async def getaddrinfo(  # type: ignore[override]
        self, host: bytes, port: int, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        name = host.decode()
        self.asked.append(name)
        if name == "slow.example":
            await self.answer.wait()
        if name == "nowhere.example":
            raise socket.gaierror("no such name")
        addresses = {"two.example": ["192.0.2.1", "192.0.2.2"]}.get(name, ["127.0.0.1"])
        return [(socket.AF_INET, type, 0, "", (address, port)) for address in addresses]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        raise NotImplementedError


@pytest.fixture
async def resolver() -> Resolver:  # noqa: ASYNC124 (needs the run)
    found = Resolver()
    trio.socket.set_custom_hostname_resolver(found)
    return found


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty service file that libpq reads."""
    path = tmp_path / "pg_service.conf"
    path.touch()
    monkeypatch.setenv("PGSERVICEFILE", str(path))
    return path


async def hosts_of(conninfo: str) -> list[tuple[str, str, str]]:
    found = [conninfo_to_dict(attempt.conninfo) for attempt in await resolve(conninfo)]
    keys = ("host", "hostaddr", "port")
    return [tuple(str(one.get(key, "")) for key in keys) for one in found]  # type: ignore[misc]


async def test_every_address_of_every_host_in_order(resolver: Resolver) -> None:
    assert await hosts_of("host=two.example,/run/pg,one.example port=1,2,3") == [
        ("two.example", "192.0.2.1", "1"),
        ("two.example", "192.0.2.2", "1"),
        ("/run/pg", "", "2"),
        ("one.example", "127.0.0.1", "3"),
    ]
    assert await hosts_of("host=nowhere.example,b.example") == [("b.example", "127.0.0.1", "5432")]
    with pytest.raises(ConnectionLost, match=r"nowhere\.example"):
        await resolve("host=nowhere.example")
    with pytest.raises(ServerRefused, match="port"):
        await resolve("host=a,b,c port=1,2")


async def test_hosts_of_a_service_file(resolver: Resolver, service: Path) -> None:
    service.write_text("[wal]\nhost=one.example,two.example\nport=11,12\n")
    assert await hosts_of("service=wal") == [
        ("one.example", "127.0.0.1", "11"),
        ("two.example", "192.0.2.1", "12"),
        ("two.example", "192.0.2.2", "12"),
    ]
    assert await hosts_of("service=wal host=mine.example port=13") == [
        ("mine.example", "127.0.0.1", "13")
    ]
    with pytest.raises(ServerRefused, match='"other" not found'):
        await resolve("service=other")


async def test_hosts_of_the_environment(
    resolver: Resolver, service: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOST", "one.example,three.example")
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "prefer-standby")
    attempts = await resolve("user=me")
    wishes = [conninfo_to_dict(one.conninfo)["target_session_attrs"] for one in attempts]
    assert wishes == ["standby", "standby", "any", "any"]
    service.write_text("[wal]\nhost=two.example\n")
    monkeypatch.setenv("PGSERVICE", "wal")
    assert [host for host, _, _ in await hosts_of("user=me")] == ["two.example"] * 4


async def test_a_slow_name_of_a_service_keeps_nobody_waiting(
    resolver: Resolver, service: Path
) -> None:
    service.write_text("[wal]\nhost=slow.example\n")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(resolve, "service=wal")
        await trio.testing.wait_all_tasks_blocked()
        assert resolver.asked == ["slow.example"]
        nursery.cancel_scope.cancel()


async def test_a_service_with_several_hosts_fails_over(service: Path) -> None:
    with PostgresServer(18) as server:
        service.write_text(
            f"[wal]\nhost=127.0.0.1,localhost\nport=1,{server.port}\nuser=postgres\n"
            "target_session_attrs=read-write\n"
        )
        with await connect("service=wal") as connection:
            assert connection.name == f"localhost:{server.port}"
        with pytest.raises(ConnectionLost, match="standby"):
            await connect(make_conninfo("service=wal", target_session_attrs="standby"))
