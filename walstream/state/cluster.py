"""The state of a cluster beside its pages, as of an LSN.

Counters, transaction statuses, relation maps, two-phase files, database and tablespace directories,
replication origins, parameters: what a base backup has, with the records since its redo point
applied as PostgreSQL's recovery does. Costs one pass over the events between the two.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from walstream.errors import LsnNotAvailable, RecordError
from walstream.index.page_index import Event, PageIndex
from walstream.rmgr import database, storage, tablespace, xact
from walstream.rmgr.layout import Cursor
from walstream.rmgr.relmap import UPDATE
from walstream.rmgr.rmgrlist import rmgr_name
from walstream.rmgr.xlog import records as xlog
from walstream.segments.reader import SegmentReader
from walstream.state.control import ControlFile, Parameters
from walstream.state.events import BodyReader, Stretch, scan_stretch
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
from walstream.wal.layout import RM_MIN_CUSTOM_ID
from walstream.wal.model import format_lsn
from walstream.wal.reason import in_record
from walstream.wal.relpath import DEFAULT_TABLESPACE, GLOBAL_TABLESPACE

RM_XLOG, RM_XACT, RM_SMGR, RM_DBASE, RM_TBLSPC, RM_RELMAP = 0, 1, 2, 4, 5, 7
RM_STANDBY, RM_ORIGIN = 8, 19
RUNNING_XACTS = 0x10
ORIGIN_SET, ORIGIN_DROP = 0x00, 0x10
WAL_LEVEL_MINIMAL = 0

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

    def __init__(self, source: StateSource) -> None:
        backup = source.backup
        self._version = source.version
        self._bodies = BodyReader(source.archive, source.version)
        files = self.files = BackupFiles(backup.path)
        name = "global/pg_control"
        control = ControlFile.parse(files.read(name), str(files.path / name))
        self.control = control
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
        self.tablespaces = {**_base_tablespaces(files), **backup.tablespaces}
        self.two_phase = _base_two_phase(files)
        self.origins = _base_origins(files)
        self.lsn = self.last_start = backup.first_needed_lsn
        # The last record before which no xid is at or above its next xid.
        self._anchor: Event | None = None

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
            LsnNotAvailable: from that record on the state cannot be told.
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
        elif rmgr_id >= RM_MIN_CUSTOM_ID:
            raise LsnNotAvailable(
                f"the record at {format_lsn(event.start_lsn)} is of the custom resource manager "
                f"{rmgr_name(rmgr_id)}, which only its extension can replay: the latest moment "
                f"that can be had is {format_lsn(event.start_lsn)}"
            )
        self.lsn, self.last_start = event.end_lsn, event.start_lsn

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
            if self.parameters.wal_level == WAL_LEVEL_MINIMAL:
                raise LsnNotAvailable(
                    f"from {format_lsn(event.start_lsn)} on the server ran with wal_level = "
                    "minimal, which leaves changes out of WAL: the latest moment that can be had "
                    f"is {format_lsn(event.start_lsn)}"
                )
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
    state = ClusterState(source)
    for event in source.index.events(backup.first_needed_lsn, at_lsn):
        state.apply(event)
    state.finish(source, at_lsn)
    return state


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


def _base_tablespaces(files: BackupFiles) -> dict[int, str]:
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
    return found


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
