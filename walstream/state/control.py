"""The control file: global/pg_control (pg_control.h), 8192 bytes, and a checkpoint's body. Pure.

Only the fields that walstream looks at or sets are named; all others are kept as they are. Offsets
are those of x86-64, the same in 14 to 18 but for the place of the CRC.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct, pack_into, unpack_from
from typing import NamedTuple

from walstream.errors import StoreError
from walstream.rmgr.xlog.records import PARAMETERS, CheckPoint, parse_checkpoint
from walstream.wal.crc import crc32c
from walstream.wal.versions import RANGE, ROWS

CONTROL_FILE_SIZE = 8192
CHECKPOINT_SIZE = 88

_MAJOR_VERSIONS = {(row.control_version, row.catalog_version): row.major for row in ROWS}
_CRC_OFFSETS = {row.control_version: row.control_crc_at for row in ROWS}

_SYSTEM_ID, _VERSIONS, _STATE, _TIME, _CHECKPOINT_LSN, _CHECKPOINT = 0, 8, 16, 24, 32, 40
_UNLOGGED, _MIN_RECOVERY, _BACKUP_START = 128, 136, 152
_WAL_LEVEL, _LOG_HINTS, _NUMBERS, _TRACK = 172, 176, 180, 200
_SEGMENT_SIZE, _CHECKSUMS = 228, 252

# redo, timeline, previous timeline, full_page_writes, (17: wal_level), next xid, ...
_POINT = Struct("<QIIB3xiQ7I4xqIII4x")


class DbState(IntEnum):
    """DBState of pg_control.h."""

    STARTUP = 0
    SHUTDOWNED = 1
    SHUTDOWNED_IN_RECOVERY = 2
    SHUTDOWNING = 3
    IN_CRASH_RECOVERY = 4
    IN_ARCHIVE_RECOVERY = 5
    IN_PRODUCTION = 6


class Parameters(NamedTuple):
    """The settings that WAL and the control file tell of."""

    max_connections: int
    max_worker_processes: int
    max_wal_senders: int
    max_prepared_transactions: int
    max_locks_per_transaction: int
    wal_level: int
    wal_log_hints: bool
    track_commit_timestamp: bool

    @classmethod
    def parse_record(cls, main_data: bytes) -> Parameters:
        """Returns the body of a PARAMETER_CHANGE record.

        Raises:
            RecordError: it is too short.
        """
        values = PARAMETERS.unpack(main_data).values()
        numbers = [int(value) for value in values if isinstance(value, int)]
        return cls(
            numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5],
            bool(numbers[6]), bool(numbers[7]),
        )  # fmt: skip


def encode_checkpoint(point: CheckPoint) -> bytes:
    """Returns the 88 bytes of a checkpoint's body, as in its record and in the control file."""
    return _POINT.pack(
        point.redo, point.timeline, point.previous_timeline, point.full_page_writes,
        point.wal_level or 0, point.next_xid, point.next_oid, point.next_multi,
        point.next_multi_offset, point.oldest_xid, point.oldest_xid_db, point.oldest_multi,
        point.oldest_multi_db, point.time_s, point.oldest_commit_ts_xid,
        point.newest_commit_ts_xid, point.oldest_active_xid,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ControlFile:
    """A control file that was checked; ``data`` are its 8192 bytes."""

    data: bytes

    @classmethod
    def parse(cls, data: bytes, where: str = "pg_control") -> ControlFile:
        """Returns the control file that the bytes are; ``where`` is the file that is told of.

        Raises:
            StoreError: too short, a version that is not in the table, or its CRC does not match.
        """
        if len(data) < CONTROL_FILE_SIZE:
            raise StoreError(f"{where}: expected {CONTROL_FILE_SIZE} bytes, got {len(data)}", where)
        numbers = unpack_from("<II", data, _VERSIONS)
        if numbers not in _MAJOR_VERSIONS:
            raise StoreError(
                f"{where}: version {numbers[0]}, catalog version {numbers[1]} is none of "
                f"PostgreSQL {RANGE}",
                where,
            )
        crc_at = _CRC_OFFSETS[numbers[0]]
        if unpack_from("<I", data, crc_at)[0] != crc32c(data[:crc_at]):
            raise StoreError(f"{where}: CRC does not match", where)
        return cls(data)

    @property
    def version(self) -> int:
        """The major version."""
        return _MAJOR_VERSIONS[unpack_from("<II", self.data, _VERSIONS)]

    @property
    def system_id(self) -> int:
        return int(unpack_from("<Q", self.data, _SYSTEM_ID)[0])

    @property
    def state(self) -> DbState:
        return DbState(unpack_from("<I", self.data, _STATE)[0])

    @property
    def segment_size(self) -> int:
        return int(unpack_from("<I", self.data, _SEGMENT_SIZE)[0])

    @property
    def checksums(self) -> bool:
        return bool(unpack_from("<I", self.data, _CHECKSUMS)[0])

    @property
    def checkpoint_lsn(self) -> int:
        return int(unpack_from("<Q", self.data, _CHECKPOINT_LSN)[0])

    @property
    def checkpoint_body(self) -> bytes:
        return self.data[_CHECKPOINT : _CHECKPOINT + CHECKPOINT_SIZE]

    @property
    def checkpoint(self) -> CheckPoint:
        """The body of the last checkpoint."""
        return parse_checkpoint(self.checkpoint_body, self.version)

    @property
    def min_recovery_lsn(self) -> int:
        """Up to where recovery must replay before the files fit together; 0 outside of recovery."""
        return int(unpack_from("<Q", self.data, _MIN_RECOVERY)[0])

    @property
    def parameters(self) -> Parameters:
        (level,) = unpack_from("<i", self.data, _WAL_LEVEL)
        connections, workers, senders, prepared, locks = unpack_from("<5i", self.data, _NUMBERS)
        return Parameters(
            connections, workers, senders, prepared, locks, level,
            bool(self.data[_LOG_HINTS]), bool(self.data[_TRACK]),
        )  # fmt: skip

    def replaced(
        self,
        *,
        system_id: int,
        state: DbState,
        time_s: int,
        checkpoint_lsn: int,
        checkpoint: CheckPoint,
        parameters: Parameters,
        consistent_at: tuple[int, int] = (0, 0),
    ) -> ControlFile:
        """Returns the file of a cluster whose last checkpoint is ``checkpoint``.

        Nothing is left of another recovery or a backup; unlogged relations are to be made anew.
        ``consistent_at``: LSN and timeline that recovery must come to (minRecoveryPoint).
        """
        data = bytearray(self.data)
        pack_into("<Q", data, _SYSTEM_ID, system_id)
        pack_into("<I", data, _STATE, state)
        pack_into("<q", data, _TIME, time_s)
        pack_into("<Q", data, _CHECKPOINT_LSN, checkpoint_lsn)
        data[_CHECKPOINT : _CHECKPOINT + CHECKPOINT_SIZE] = encode_checkpoint(checkpoint)
        pack_into("<QQI", data, _UNLOGGED, 1000, *consistent_at)
        pack_into("<QQB", data, _BACKUP_START, 0, 0, 0)
        pack_into("<i", data, _WAL_LEVEL, parameters.wal_level)
        data[_LOG_HINTS] = parameters.wal_log_hints
        pack_into("<5i", data, _NUMBERS, *parameters[:5])
        data[_TRACK] = parameters.track_commit_timestamp
        crc_at = _CRC_OFFSETS[unpack_from("<I", data, _VERSIONS)[0]]
        pack_into("<I", data, crc_at, crc32c(bytes(data[:crc_at])))
        return ControlFile(bytes(data))
