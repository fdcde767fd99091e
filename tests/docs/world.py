"""A place where the commands of a page can be run as they stand: servers, a store, a past.

Everything runs as the user that servers run as, for PostgreSQL's programs refuse root. Where a page
says ``walstream run`` or ``walstream receive``, which go on until they are told to stop, they are
started in the background, the next commands come when they stream, and commands that read the store
come when what the server had flushed is in it. At the page's end they get SIGTERM and must end
well.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.docs.blocks import Block
from tests.support.binaries import identity_arguments, wheel_client
from tests.support.clusters import SUPERUSER, directory_for_server, reserved_port, roomy_directory
from tests.support.servers import PostgresServer
from walstream.wal.model import parse_lsn

DEADLINE_S = 300

PAST = """
CREATE ROLE replicator LOGIN REPLICATION;
CREATE DATABASE app;
"""
TABLES = """
CREATE TABLE accounts (id int PRIMARY KEY, owner text, balance numeric);
INSERT INTO accounts SELECT i, 'owner ' || i, i * 10 FROM generate_series(1, 1000) i;
CREATE TABLE orders (id int PRIMARY KEY, item text);
INSERT INTO orders SELECT i, 'item ' || i FROM generate_series(1, 1000) i;
CHECKPOINT;
"""

# What a shell needs to run a page. `walstream diff` ends with 10 where there are differences.
PREAMBLE = r"""
set -Eeuo pipefail
trap 'echo "line $LINENO of the page'"'"'s script: exit code $?" >&2' ERR
services=()
stop_services() {
    for service in "${services[@]}"; do
        kill -TERM "$service"
        wait "$service"
    done
    services=()
}
begin_service() {
    local log=$WORLD/service.${#services[@]}.log status=$WORLD/status.${#services[@]}.json
    case $1 in
        run) status= ; for word; do
                 [ "$status" = next ] && status=$word/status.json
                 [ "$word" = --store ] && status=next
             done
             command walstream "$@" 2> "$log" & ;;
        receive) command walstream "$@" --status-file "$status" 2> "$log" & ;;
    esac
    services+=($!)
    STATUS=$status
    until grep -qs '"phase": "streaming"' "$status"; do
        kill -0 $! || { cat "$log" >&2; return 1; }
        sleep 0.1
    done
    caught_up
}
caught_up() {
    [ ${#services[@]} -gt 0 ] || return 0
    local key=flushed_lsn end
    grep -q '"indexed_lsn"' "$STATUS" && key=indexed_lsn
    end=$(command psql -d postgres -Atqc 'SELECT pg_current_wal_flush_lsn()')
    until at=$(sed -n "s/.*\"$key\": \"\(.*\)\".*/\1/p" "$STATUS"); [ -n "$at" ] &&
          [ "$(command psql -d postgres -Atqc "SELECT '$at'::pg_lsn >= '$end'")" = t ]; do
        sleep 0.1
    done
}
walstream() {
    case " $* " in
        *" --create-slot "*|*" --drop-slot "*|*" --endpos "*|*" --help "*) command walstream "$@" ;;
        " run "*|" receive "*) begin_service "$@" ;;
        " diff "*) caught_up; command walstream "$@" || [ $? = 10 ] ;;
        *) caught_up; command walstream "$@" ;;
    esac
}
"""


class Failed(AssertionError):
    """A command of a page did not end well."""


class World:
    """A directory, a shell and what a page's names of hosts and paths are replaced with in it."""

    def __init__(self, place: Path, python: Sequence[str], clients: bool) -> None:
        self.place = place
        self.replaced: dict[str, str] = {}
        programs = place / "bin"
        programs.mkdir()
        for name, words in {
            "walstream": [*python, "-m", "walstream"],
            "python": python,
            "python3": python,
        }.items():
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
            program.chmod(0o755)
        path = [str(programs), "/usr/bin", "/bin"]
        if clients:
            path.insert(1, str(wheel_client("psql").parent))
        self.environment = {
            "HOME": str(place / "home"),
            "LANG": "C.UTF-8",
            "PATH": ":".join(path),
            "PGTZ": "UTC",
            "TZ": "UTC",
            "WORLD": str(place),
        }
        for name in ("home", "srv", "var"):
            subprocess.run(["mkdir", str(place / name)], check=True, **identity_arguments())

    def script(self, block: Block, number: int) -> str:
        """Returns the shell commands of a block."""
        text = self.replace(block.text)
        if block.language == "stop":
            return "stop_services\n"
        if block.language == "python":
            program = self.place / f"snippet{number}.py"
            program.write_text(text)
            return f"caught_up\npython {program}\n"
        return text

    def replace(self, text: str) -> str:
        """Returns a block's text with what stands in this world for the names of the page."""
        for old in sorted(self.replaced, key=len, reverse=True):
            text = text.replace(old, self.replaced[old])
        return text

    def run(self, blocks: Sequence[Block]) -> dict[str, str]:
        """Runs blocks of ``sh`` and ``python``, in order, in one shell; returns what each printed.

        Raises:
            Failed: a command did not end with 0.
        """
        script = [PREAMBLE]
        outputs = {}
        for number, block in enumerate(blocks):
            outputs[block.name] = self.place / f"output.{number}"
            script.append(f"exec > {outputs[block.name]} 2>&1\n")
            script.append(self.script(block, number))
        script.append(f"exec >> {self.place / 'end'} 2>&1\nstop_services\n")
        path = self.place / "script.sh"
        path.write_text("".join(script))
        for name in ("end", *(file.name for file in outputs.values())):
            (self.place / name).touch()
            (self.place / name).chmod(0o666)
        self.place.chmod(0o777)
        done = subprocess.run(
            ["timeout", str(DEADLINE_S), "bash", str(path)],
            cwd=self.place / "home", env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, **identity_arguments(),
        )  # fmt: skip
        printed = {name: file.read_text() for name, file in outputs.items()}
        if done.returncode != 0:
            begun = "".join([name for name, text in printed.items() if text][-1:])
            logs = [log.read_text() for log in sorted(self.place.glob("service.*.log"))]
            raise Failed(
                f"exit code {done.returncode} in or after {begun}: {printed.get(begun)}"
                f"{done.stderr}{(self.place / 'end').read_text()}{''.join(logs)}"
            )
        return printed

    def stop_what_is_left(self) -> None:
        """Kills the servers that a page started and, since it failed, did not stop."""
        for path in self.place.rglob("postmaster.pid"):
            pid = int(path.read_text().split()[0])
            with suppress(ProcessLookupError):
                postmaster = os.pidfd_open(pid)
                signal.pidfd_send_signal(postmaster, signal.SIGQUIT)
                select.select([postmaster], [], [])
                os.close(postmaster)


@contextmanager
def empty_world(python: Sequence[str]) -> Iterator[World]:
    """Where a newcomer begins: Python with walstream, nothing else."""
    with directory_for_server(roomy_directory()) as place:
        world = World(place, python, clients=False)
        try:
            yield world
        finally:
            world.stop_what_is_left()


@contextmanager
def furnished_world(python: Sequence[str], *, store: bool) -> Iterator[World]:
    """A server ``db1`` with tables, a store of it, and what happened since: rows and tables went.

    ``store``: whether the store is there when the page begins.
    """
    with ExitStack() as stack:
        place = stack.enter_context(directory_for_server(roomy_directory()))
        settings = {"archive_mode": "on", "archive_command": "true", "max_wal_size": "256MB"}
        server = stack.enter_context(PostgresServer(18, config=settings))
        port = stack.enter_context(reserved_port())
        world = World(place, python, clients=True)
        stack.callback(world.stop_what_is_left)
        world.environment |= {
            "PGHOST": str(server.root),
            "PGPORT": str(server.port),
            "PGUSER": SUPERUSER,
        }
        for statement in PAST.strip().splitlines():
            server.execute(statement)
        server.execute(TABLES, dbname="app")
        world.replaced = {
            "host=db1 user=replicator": f"host={server.root} port={server.port} user=replicator",
            "/srv/wal": str(place / "srv"),
            "/srv/then": str(place / "var" / "then"),
            "/var/lib/postgresql": str(place / "var"),
            "5555": str(port),
        }
        if store:
            past(world, server)
        yield world


def past(world: World, server: PostgresServer) -> None:
    """Makes the store and what happened in it, and teaches ``world`` the names of the moments."""
    directory = world.place / "srv" / "db1"
    command = ["walstream", "run", f"{server.dsn} dbname=app", "--store", str(directory)]
    arguments = {"env": world.environment, "cwd": world.place, **identity_arguments()}
    log = world.place / "run.log"
    with log.open("w") as file, subprocess.Popen(command, stderr=file, **arguments) as running:
        status = directory / "status.json"
        deadline = time.monotonic() + DEADLINE_S
        while not (status.exists() and '"streaming"' in status.read_text()):
            assert running.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        moment = server.execute("SELECT now()::text")[0][0]
        (xid,) = server.execute(
            "WITH gone AS (DELETE FROM accounts WHERE id = 42 OR id > 990 RETURNING 1) "
            "SELECT pg_current_xact_id()::text FROM gone LIMIT 1", dbname="app",
        )[0]  # fmt: skip
        server.execute("SELECT pg_create_restore_point('before the import')")
        path = server.execute("SELECT pg_relation_filepath('accounts')", dbname="app")[0][0]
        (lsn,) = server.execute("SELECT pg_current_wal_insert_lsn()::text")[0]
        server.execute("DROP TABLE orders", dbname="app")
        end = server.flush_lsn()
        while parse_lsn(json.loads(status.read_bytes())["indexed_lsn"]) < end:
            assert running.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        assert running.wait() == 0, log.read_text()
    names: Mapping[str, str] = {
        "10 minutes ago": moment,
        "2026-11-25 17:34+01": moment,
        "0/3026CE0": lsn,
        "0/3000060": lsn,
        "base/5/16384": path,
        "xid:728": f"xid:{xid}",
        "--xid 728": f"--xid {xid}",
    }
    world.replaced.update(names)
