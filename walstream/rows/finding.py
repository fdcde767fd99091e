"""When a table was dropped, truncated or rewritten: the commits that removed its files.

A commit names the files that it removes. Of each such commit the catalogs just before and just
after are asked what the name meant; transaction statuses are carried from one to the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from walstream.errors import NameNotFound
from walstream.index.ends import end_events
from walstream.index.page_index import Event
from walstream.pages.service import PageService
from walstream.rmgr import xact
from walstream.rows.catalog import Database, Relation
from walstream.rows.cluster import ClusterAt, parse_name
from walstream.state.cluster import ClusterState, StateSource
from walstream.state.events import BodyReader
from walstream.wal.model import RelFileLocator

RM_XACT = 1
DROPPED, TRUNCATED, REWRITTEN = "dropped", "truncated", "rewritten"


class TableEvent(NamedTuple):
    """What a commit did to a table; ``before_lsn`` is the last moment without it."""

    kind: str
    name: str
    xid: int
    time_us: int
    before_lsn: int
    end_lsn: int


class _Removal(NamedTuple):
    """A commit that removes files."""

    event: Event
    xid: int
    time_us: int
    files: frozenset[RelFileLocator]


def _removals(events: Iterator[Event], bodies: BodyReader, version: int) -> Iterator[_Removal]:
    for event in events:
        operation = event.info & xact.OP_MASK
        if event.rmgr_id != RM_XACT or not event.info & xact.HAS_INFO:
            continue
        if operation not in (xact.COMMIT, xact.COMMIT_PREPARED):
            continue
        end = xact.parse_end(bodies.body(event.start_lsn).main_data, event.info, version)
        if end.dropped:
            xid = end.twophase_xid or event.xid
            yield _Removal(event, xid, end.time_us, frozenset(end.dropped))


async def find_table_events(
    service: PageService,
    source: StateSource,
    text: str,
    database: str | None,
    upto_lsn: int,
) -> list[TableEvent]:
    """Returns what commits up to ``upto_lsn`` did to the files of a table, oldest first.

    Raises:
        NameNotFound: the name cannot be one of a table, or there is no such database.
        RowDamaged, WalstreamError: catalogs or WAL cannot be read.

    Cancellation: nothing is left behind.
    """
    asked = parse_name(text)
    bodies = BodyReader(source.archive, source.version)
    events = end_events(service.index, source.backup.first_needed_lsn, upto_lsn)
    found: list[TableEvent] = []
    state = ClusterState(source)
    applied = end_events(service.index, source.backup.first_needed_lsn, upto_lsn)
    pending = next(applied, None)
    for removal in _removals(events, bodies, source.version):
        if removal.event.start_lsn < source.backup.stop_lsn:
            continue
        while pending is not None and pending.end_lsn <= removal.event.start_lsn:
            state.apply(pending)
            pending = next(applied, None)
        before_lsn = removal.event.start_lsn
        cluster = ClusterAt(service, before_lsn, state.transactions, state.relation_maps)
        before = await _meaning(cluster, asked.database or database, text, removal.files)
        if before is None:
            continue
        place, relation = before
        while pending is not None and pending.end_lsn <= removal.event.end_lsn:
            state.apply(pending)
            pending = next(applied, None)
        end_lsn = removal.event.end_lsn
        later = ClusterAt(service, end_lsn, state.transactions, state.relation_maps)
        kind = await _what_happened(later, place, relation)
        found.append(TableEvent(kind, text, removal.xid, removal.time_us, before_lsn, end_lsn))
    return found


async def _meaning(
    cluster: ClusterAt, database: str | None, text: str, files: frozenset[RelFileLocator]
) -> tuple[Database, Relation] | None:
    """Returns the relation of that name if the commit removes its file."""
    owners = {locator.db_oid for locator in files}
    for one in await cluster.databases():
        if one.oid not in owners or (database is not None and one.name != database):
            continue
        try:
            found = await cluster.find(text, one.name)
        except NameNotFound:
            continue
        if found.catalog.locator(found.relation) in files:
            return one, found.relation
        parts = [found.relation.oid]
        while parts:
            part = found.catalog.relations.get(parts.pop())
            if part is not None:
                if found.catalog.locator(part) in files:
                    return one, found.relation
                parts += found.catalog.children.get(part.oid, [])
    return None


async def _what_happened(cluster: ClusterAt, place: Database, relation: Relation) -> str:
    """Returns what became of a relation whose file was removed."""
    try:
        catalog = await cluster.catalog(place.name)
    except NameNotFound:
        return DROPPED
    after = catalog.relations.get(relation.oid)
    if after is None:
        return DROPPED
    locator = catalog.locator(after)
    blocks = 0 if locator is None else catalog.pages.blocks(locator)
    return REWRITTEN if blocks else TRUNCATED
