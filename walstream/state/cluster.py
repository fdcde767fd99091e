"""The state of a cluster beside its pages, as of an LSN.

Counters, transaction statuses, relation maps, two-phase files, database and tablespace directories,
replication origins, parameters: what a base backup has, with the records since its redo point
applied as PostgreSQL's recovery does. What was folded before (``folded.py``) is not applied again:
the state at an LSN costs what happened since the last folded one.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from walstream.errors import LsnNotAvailable, RecordError
from walstream.index.digest import WallKind
from walstream.index.ends import EndRow, end_runs
from walstream.index.page_index import Event, PageIndex
from walstream.rmgr import database, storage, tablespace, xact
from walstream.rmgr.layout import Cursor
from walstream.rmgr.relmap import UPDATE
from walstream.rmgr.rmgrlist import rmgr_name
from walstream.rmgr.xlog import records as xlog
from walstream.segments.reader import SegmentReader
from walstream.state.control import ControlFile, Parameters, encode_checkpoint
from walstream.state.events import BodyReader, Stretch, scan_stretch
from walstream.state.folded import Folded, newest_folded, page_reader
from walstream.state.origins import parse_origins
from walstream.state.slru import xid_precedes
from walstream.state.transactions import (
    RMGRS,
    Body,
    TransactionLog,
    base_areas,
)
from walstream.store.backup_files import BackupFiles, reported
from walstream.store.base_backup import BaseBackup
from walstream.wal.model import format_lsn
from walstream.wal.reason import in_record
from walstream.wal.relpath import DEFAULT_TABLESPACE, GLOBAL_TABLESPACE

RM_XLOG, RM_XACT, RM_SMGR, RM_DBASE, RM_TBLSPC, RM_RELMAP = 0, 1, 2, 4, 5, 7
RM_STANDBY, RM_ORIGIN = 8, 19
RUNNING_XACTS = 0x10
ORIGIN_SET, ORIGIN_DROP = 0x00, 0x10

# What a folded state has of the state and of its transactions, by attribute.
NUMBERS = (
    "next_xid",
    "next_oid",
    "oldest_xid",
    "oldest_xid_db",
    "timeline",
    "full_page_writes",
    "lsn",
    "last_start",
)
LOG_NUMBERS = (
    "next_multi",
    "next_offset",
    "oldest_multi",
    "oldest_multi_db",
    "oldest_commit_ts",
    "newest_commit_ts",
)

MAP_FILE = "pg_filenode.map"
# (tablespace, database) of the shared catalogs.
SHARED = (GLOBAL_TABLESPACE, 0)

_TWO_PHASE_NAME = re.compile(r"pg_twophase/(?:[0-9A-F]{8})?([0-9A-F]{8})")
_OID = re.compile(r"[1-9][0-9]{0,9}")
_IN_DATABASE = re.compile(
    r"(?P<path>(?:base|pg_tblspc/(?P<spc>[1-9][0-9]{0,9})/PG_[^/]+)/(?P<db>[1-9][0-9]{0,9}))/"
)


@dataclass(frozen=True, slots=True)
class StateSource:
    """Where the state comes from: the index of a store, its WAL and one of its base backups."""

    index: PageIndex
    archive: SegmentReader
    backup: BaseBackup
    version: int


class ClusterState:
    """The state that ``source.backup`` has, taken further by ``apply``; see ``cluster_state``.

    Directories are keys ``(tablespace oid, database oid)``; the value says whether they have a
    PG_VERSION file. ``tablespaces`` maps an oid to the path on the server, "" for one inside its
    data directory. ``two_phase`` maps an xid to the content of its file. ``origins`` maps a
    replication origin to its remote LSN. ``lsn`` is the end of the last record that was applied.
    """

    def __init__(self, source: StateSource, folded: Folded | None = None) -> None:
        backup = source.backup
        self._version = source.version
        self._bodies = BodyReader(source.archive, source.version)
        files = self.files = BackupFiles(backup.path)
        name = "global/pg_control"
        control = ControlFile.parse(files.read(name), str(files.path / name))
        self.control = control
        # The last record before which no xid is at or above its next xid.
        self._anchor: Event | None = None
        if folded is not None:
            self._go_on_from(folded)
            return
        self.parameters: Parameters = control.parameters
        body = self._bodies.body(backup.checkpoint_lsn)
        point = xlog.parse_checkpoint(body.main_data, source.version)
        self.checkpoint = point
        self.next_xid = point.next_xid
        self.next_oid = point.next_oid
        self.oldest_xid, self.oldest_xid_db = point.oldest_xid, point.oldest_xid_db
        self.timeline = point.timeline
        self.full_page_writes = point.full_page_writes
        self.transactions = TransactionLog(
            base_areas(files),
            source.version,
            tracked=self.parameters.track_commit_timestamp,
            next_multi=point.next_multi,
            next_offset=point.next_multi_offset,
            oldest_multi=point.oldest_multi,
            oldest_multi_db=point.oldest_multi_db,
            oldest_commit_ts=point.oldest_commit_ts_xid,
            newest_commit_ts=point.newest_commit_ts_xid,
        )
        self.directories: dict[tuple[int, int], bool] = {}
        self.relation_maps: dict[tuple[int, int], bytes] = {}
        self._read_directories()
        self.tablespaces = base_tablespaces(backup)
        self.two_phase = _base_two_phase(files)
        self.origins = _base_origins(files)
        self.lsn = self.last_start = backup.first_needed_lsn

    def _go_on_from(self, folded: Folded) -> None:
        self.parameters = folded.parameters
        self.checkpoint = xlog.parse_checkpoint(bytes.fromhex(folded.checkpoint), self._version)
        numbers = dict(folded.numbers)
        for name in NUMBERS:
            setattr(self, name, numbers[name])
        self.full_page_writes = bool(numbers["full_page_writes"])
        log = {name: numbers[name] for name in LOG_NUMBERS}
        self.transactions = TransactionLog(
            base_areas(self.files),
            self._version,
            tracked=bool(numbers["tracked"]),
            kept=folded.areas,
            **log,
        )
        self.transactions.page_made_early = numbers["page_made_early"]
        self.transactions.newest_member_xid = numbers["newest_member_xid"]
        self.directories = dict(folded.directories)
        self.relation_maps = dict(folded.relation_maps)
        self.tablespaces = dict(folded.tablespaces)
        self.two_phase = dict(folded.two_phase)
        self.origins = dict(folded.origins)
        self._anchor = None if folded.anchor is None else Event(*folded.anchor)

    def fold(self, index: PageIndex, base_lsn: int, lsn: int) -> Folded:
        """Returns the state as it is kept at ``lsn``, to which it has been taken.

        The pages of the areas that were changed (``Slru.changes``) are to be kept with it: they
        are read from the index from now on.
        """
        log = self.transactions
        numbers = {name: int(getattr(self, name)) for name in NUMBERS}
        numbers |= {name: getattr(log, name) for name in LOG_NUMBERS}
        numbers["tracked"] = int(log.tracked)
        numbers["page_made_early"] = log.page_made_early
        numbers["newest_member_xid"] = log.newest_member_xid
        return Folded(
            lsn,
            encode_checkpoint(self.checkpoint).hex(),
            self.parameters,
            numbers,
            dict(self.directories),
            dict(self.relation_maps),
            dict(self.tablespaces),
            dict(self.two_phase),
            dict(self.origins),
            self._anchor,
            {
                name: area.keep(page_reader(index, base_lsn, name, lsn))
                for name, area in log.areas.items()
            },
        )

    def _read_directories(self) -> None:
        for key, directory in base_directories(self.files):
            self.directories[key] = self.files.has(f"{directory}/PG_VERSION")
            if self.files.has(f"{directory}/{MAP_FILE}"):
                self.relation_maps[key] = self.files.read(f"{directory}/{MAP_FILE}")
        self.relation_maps[SHARED] = self.files.read(f"global/{MAP_FILE}")

    # -- applying records

    def apply(self, event: Event) -> None:
        """Applies one record.

        Raises:
            RecordError: its body is shorter than it says.
            WalError, StorageError: it cannot be read.
        """
        try:
            self._apply(event)
        except RecordError as error:
            raise in_record(error, event.start_lsn) from error

    def _apply(self, event: Event) -> None:
        rmgr_id, info = event.rmgr_id, event.info
        if event.xid >= 3:
            self._past(event.xid)
        if rmgr_id in RMGRS:
            self.transactions.apply(
                rmgr_id, info, event.xid, lambda: self._bodies.body(event.start_lsn)
            )
        if rmgr_id == RM_XACT:
            self._transaction(event)
        elif rmgr_id == RM_XLOG:
            self._xlog(event)
        elif rmgr_id == RM_STANDBY:
            if info & 0xF0 == RUNNING_XACTS:
                self._anchor = event
        elif rmgr_id in (RM_SMGR, RM_DBASE, RM_TBLSPC, RM_RELMAP, RM_ORIGIN):
            self._other(self._bodies.body(event.start_lsn))
        self.lsn, self.last_start = event.end_lsn, event.start_lsn

    def apply_all(self, index: PageIndex, after_lsn: int, upto_lsn: int) -> None:
        """Applies the records that end in ``(after_lsn, upto_lsn]``.

        Raises:
            RecordError, WalError, StorageError: see ``apply``.
        """
        for found in end_runs(index, after_lsn, upto_lsn):
            if isinstance(found, Event):
                self.apply(found)
            else:
                self._apply_ends(found)

    def _apply_ends(self, ends: list[EndRow]) -> None:
        at = 0
        while True:
            stop = self.transactions.apply_plain(ends, at)
            newest = -1
            for i in range(at, stop):
                ahead = (ends[i][2] - self.next_xid) & 0xFFFFFFFF
                if newest < ahead < 1 << 31:
                    newest = ahead
            if newest >= 0:
                self._past((self.next_xid + newest) & 0xFFFFFFFF)
            if stop == len(ends):
                break
            end_lsn, start_lsn, xid, _, info = ends[stop]
            self.apply(Event(end_lsn, start_lsn, RM_XACT, info, xid))
            at = stop + 1
        self.lsn, self.last_start = ends[-1][:2]

    def _past(self, xid: int) -> None:
        """Moves the next xid beyond ``xid`` (AdvanceNextFullTransactionIdPastXid)."""
        ahead = (xid - self.next_xid) & 0xFFFFFFFF
        if ahead < 1 << 31:
            following = self.next_xid + ahead + 1
            while following & 0xFFFFFFFF < 3:
                following += 1
            self.next_xid = following

    def _transaction(self, event: Event) -> None:
        op = event.info & xact.OP_MASK
        if op == xact.PREPARE:
            self.two_phase[event.xid] = self._bodies.body(event.start_lsn).main_data
        elif op in (xact.COMMIT, xact.ABORT, xact.COMMIT_PREPARED, xact.ABORT_PREPARED):
            if not event.info & xact.HAS_INFO:
                return
            body = self._bodies.body(event.start_lsn)
            end = xact.parse_end(body.main_data, body.info, self._version)
            for xid in (*end.subxids, end.twophase_xid):
                if xid:
                    self._past(xid)
            if end.twophase_xid:
                self.two_phase.pop(end.twophase_xid, None)
            if end.xinfo & xact.HAS_ORIGIN and body.origin:
                self._advance_origin(body.origin, end.origin_lsn)

    def _advance_origin(self, origin: int, remote_lsn: int) -> None:
        self.origins[origin] = max(self.origins.get(origin, 0), remote_lsn)

    def _xlog(self, event: Event) -> None:
        op = event.info & 0xF0
        if op in (xlog.CHECKPOINT_SHUTDOWN, xlog.CHECKPOINT_ONLINE):
            self._checkpoint(event, op == xlog.CHECKPOINT_SHUTDOWN)
        elif op == xlog.NEXTOID:
            self.next_oid = Cursor(self._bodies.body(event.start_lsn).main_data).integer()
        elif op == xlog.FPW_CHANGE:
            data = self._bodies.body(event.start_lsn).main_data
            self.full_page_writes = Cursor(data).integer("u8") != 0
        elif op == xlog.END_OF_RECOVERY:
            body = self._bodies.body(event.start_lsn)
            self.timeline = xlog.parse_end_of_recovery(body.main_data).timeline
        elif op == xlog.PARAMETER_CHANGE:
            self.parameters = Parameters.parse_record(self._bodies.body(event.start_lsn).main_data)
            tracked = self.parameters.track_commit_timestamp
            self.transactions.track_commit_times(tracked, self.next_xid)

    def _checkpoint(self, event: Event, shutdown: bool) -> None:
        body = self._bodies.body(event.start_lsn)
        point = xlog.parse_checkpoint(body.main_data, self._version)
        log = self.transactions
        self.checkpoint = point
        self.timeline = point.timeline
        self.full_page_writes = point.full_page_writes
        if shutdown:
            self.next_xid, self.next_oid = point.next_xid, point.next_oid
            log.next_multi, log.next_offset = point.next_multi, point.next_multi_offset
            self.oldest_xid, self.oldest_xid_db = point.oldest_xid, point.oldest_xid_db
            self._anchor = event
        else:
            self.next_xid = max(self.next_xid, point.next_xid)
            log.advance_multi(point.next_multi, point.next_multi_offset)
            if xid_precedes(self.oldest_xid, point.oldest_xid):
                self.oldest_xid, self.oldest_xid_db = point.oldest_xid, point.oldest_xid_db
        log.advance_oldest_multi(point.oldest_multi, point.oldest_multi_db)

    def _other(self, body: Body) -> None:
        if body.rmgr_id == RM_RELMAP:
            change = UPDATE.unpack(body.main_data)
            db_oid, spc_oid, data = change["db_oid"], change["spc_oid"], change["data"]
            assert isinstance(db_oid, int) and isinstance(spc_oid, int) and isinstance(data, bytes)
            self.relation_maps[(spc_oid, db_oid) if db_oid else SHARED] = data
        elif body.rmgr_id == RM_SMGR:
            found = storage.parse_storage(body.main_data, body.info)
            if found is not None and found.locator.spc_oid != GLOBAL_TABLESPACE:
                # A database's directory in another tablespace appears with its first file there.
                self.directories.setdefault(found.locator[:2], False)
        elif body.rmgr_id == RM_DBASE:
            self._database(database.parse_database(body.main_data, body.info, self._version))
        elif body.rmgr_id == RM_TBLSPC:
            self._tablespace(tablespace.parse_tablespace(body.main_data, body.info))
        elif body.info & 0xF0 == ORIGIN_SET:
            cursor = Cursor(body.main_data)
            remote_lsn, origin = cursor.integer("u64"), cursor.integer("u16")
            if cursor.integer("u8"):
                self.origins[origin] = remote_lsn
            else:
                self._advance_origin(origin, remote_lsn)
        elif body.info & 0xF0 == ORIGIN_DROP:
            self.origins.pop(Cursor(body.main_data).integer("u16"), None)

    def _database(self, change: database.DatabaseCreate | database.DatabaseDrop | None) -> None:
        if isinstance(change, database.DatabaseDrop):
            for spc_oid in change.spc_oids:
                self.directories.pop((spc_oid, change.db_oid), None)
                self.relation_maps.pop((spc_oid, change.db_oid), None)
        elif change is not None:
            key = (change.spc_oid, change.db_oid)
            self.relation_maps.pop(key, None)
            self.directories[key] = True
            if change.source_db_oid is not None and change.source_spc_oid is not None:
                source = (change.source_spc_oid, change.source_db_oid)
                self.directories[key] = self.directories.get(source, False)
                if source in self.relation_maps:
                    self.relation_maps[key] = self.relation_maps[source]

    def _tablespace(
        self, change: tablespace.TablespaceCreate | tablespace.TablespaceDrop | None
    ) -> None:
        if isinstance(change, tablespace.TablespaceCreate):
            self.tablespaces[change.spc_oid] = change.path
        elif change is not None:
            self.tablespaces.pop(change.spc_oid, None)
            for key in [key for key in self.directories if key[0] == change.spc_oid]:
                del self.directories[key]

    # -- at the end

    def finish(self, source: StateSource, at_lsn: int) -> None:
        """Takes in what the records that are no events say: their xids, and where the last ends.

        The index has a mark of that every 256 KB; only what is behind the last one is read.

        Raises:
            WalError, StorageError: WAL cannot be read.
        """
        anchor = self._anchor
        from_lsn = source.backup.first_needed_lsn if anchor is None else anchor.end_lsn
        if anchor is not None and anchor.rmgr_id == RM_STANDBY:
            cursor = Cursor(self._bodies.body(anchor.start_lsn).main_data)
            cursor.skip(12)
            self._past((cursor.integer() - 1) & 0xFFFFFFFF)
        if self.transactions.newest_member_xid:
            self._past(self.transactions.newest_member_xid)
        mark = source.index.last_mark(at_lsn)
        if mark is not None and mark.end_lsn > from_lsn:
            from_lsn = mark.end_lsn
            if mark.newest_xid:
                self._past(mark.newest_xid)
            if mark.end_lsn > self.lsn:
                self.lsn, self.last_start = mark.end_lsn, mark.start_lsn
        stretch: Stretch = scan_stretch(source.archive, source.version, from_lsn, at_lsn)
        if stretch.newest_xid:
            self._past(stretch.newest_xid)
        if stretch.last_end > self.lsn:
            self.lsn, self.last_start = stretch.last_end, stretch.last_start


def cluster_state(source: StateSource, at_lsn: int) -> ClusterState:
    """Returns the state after all records that end at or before ``at_lsn``. Blocks.

    Raises:
        LsnNotAvailable: before the end of the backup, or not to be told at that LSN.
        WalError, StorageError, StoreError: the backup or WAL cannot be read.
    """
    backup = source.backup
    if at_lsn < backup.stop_lsn:
        raise LsnNotAvailable(
            f"{format_lsn(at_lsn)} is before the base backup is consistent: "
            f"the earliest moment is {format_lsn(backup.stop_lsn)}"
        )
    check_walls(source, at_lsn)
    folded = newest_folded(source.index, backup.start_lsn, at_lsn)
    state = ClusterState(source, folded)
    after_lsn = backup.first_needed_lsn if folded is None else folded.lsn
    state.apply_all(source.index, after_lsn, at_lsn)
    state.finish(source, at_lsn)
    return state


def check_walls(source: StateSource, at_lsn: int) -> None:
    """Checks that every record from the backup to an LSN can be replayed.

    Raises:
        LsnNotAvailable: one of them cannot.
    """
    wall = source.index.first_wall(source.backup.first_needed_lsn, at_lsn)
    if wall is None:
        return
    start = format_lsn(wall.start_lsn)
    if wall.kind == WallKind.CUSTOM:
        raise LsnNotAvailable(
            f"the record at {start} is of the custom resource manager {rmgr_name(wall.rmgr_id)}, "
            f"which only its extension can replay: the latest moment that can be had is {start}"
        )
    raise LsnNotAvailable(
        f"from {start} on the server ran with wal_level = minimal, which leaves changes out of "
        f"WAL: the latest moment that can be had is {start}"
    )


def transaction_log(source: StateSource, at_lsn: int) -> TransactionLog:
    """Returns the statuses of transactions after all records that end at or before ``at_lsn``.

    Blocks; as ``cluster_state``, whose errors it raises.
    """
    return cluster_state(source, at_lsn).transactions


# -- what a base backup has


def base_directories(files: BackupFiles) -> list[tuple[tuple[int, int], str]]:
    """Returns (tablespace, database) and path of each database directory that has a file."""
    found = {}
    for name, _ in files.sizes():
        match = _IN_DATABASE.match(name)
        if match is not None:
            found[int(match["spc"] or DEFAULT_TABLESPACE), int(match["db"])] = match["path"]
    return sorted(found.items())


def base_tablespaces(backup: BaseBackup) -> dict[int, str]:
    """Returns OID and path on the server ("": inside its data directory) of each tablespace.

    Raises:
        BackupDamaged: the backup's map of them is not what was backed up.
        StorageError: it cannot be read.
    """
    files = BackupFiles(backup.path)
    found = {}
    # An empty one has no file: its directory tells.
    spaces = files.path / "pg_tblspc"
    with reported(spaces):
        for space in spaces.iterdir() if spaces.is_dir() else ():
            if _OID.fullmatch(space.name):
                found[int(space.name)] = ""
    if files.has("tablespace_map"):
        text = os.fsdecode(files.read("tablespace_map"))
        # A backslash protects a line end within a path.
        for line in re.findall(r"((?:\\.|[^\\\n])+)", text, re.DOTALL):
            oid, _, place = line.partition(" ")
            if _OID.fullmatch(oid):
                found[int(oid)] = re.sub(r"\\(.)", r"\1", place, flags=re.DOTALL)
    return {**found, **backup.tablespaces}


def _base_two_phase(files: BackupFiles) -> dict[int, bytes]:
    found = {}
    for path, _ in files.sizes():
        name = _TWO_PHASE_NAME.fullmatch(path)
        if name is not None:
            found[int(name[1], 16)] = files.read(path)[:-4]
    return found


def _base_origins(files: BackupFiles) -> dict[int, int]:
    name = "pg_logical/replorigin_checkpoint"
    return parse_origins(files.read(name), str(files.path / name)) if files.has(name) else {}
