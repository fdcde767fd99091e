"""The major versions of PostgreSQL that walstream reads, and what differs between their formats.

One row a version: whoever adds one adds a row here, and rows of operations (``Op(19, ...)``) where
the bodies or lines of records changed (``rmgr/``). What a version once changed and all later ones
keep is asked for where it matters (``version >= 16``) and needs no edit then. Kernels read the
table through ``formats.py``.
"""

from __future__ import annotations

from typing import NamedTuple


class Version(NamedTuple):
    """The formats of one major version.

    page_magic: XLOG_PAGE_MAGIC. max_record_length: XLogRecordMaxSize, before 16 what palloc gives.
    custom_rmgrs: resource manager ids from 128 on exist. image_apply, image_pglz, image_lz4,
    image_zstd: bits of bimg_info, 0 for none. control_version, control_crc_at: PG_CONTROL_VERSION
    and where the control file has its CRC. catalog_version: CATALOG_VERSION_NO.
    """

    major: int
    page_magic: int
    max_record_length: int
    custom_rmgrs: bool
    image_apply: int
    image_pglz: int
    image_lz4: int
    image_zstd: int
    control_version: int
    control_crc_at: int
    catalog_version: int


_PALLOC = 0x3FFFFFFF
XLOG_RECORD_MAX_SIZE = 1020 * 1024 * 1024
ROWS = (
    Version(14, 0xD10D, _PALLOC, False, 0x04, 0x02, 0x00, 0x00, 1300, 288, 202107181),
    Version(15, 0xD110, _PALLOC, True, 0x02, 0x04, 0x08, 0x10, 1300, 288, 202209061),
    Version(16, 0xD113, XLOG_RECORD_MAX_SIZE, True, 0x02, 0x04, 0x08, 0x10, 1300, 288, 202307071),
    Version(17, 0xD116, XLOG_RECORD_MAX_SIZE, True, 0x02, 0x04, 0x08, 0x10, 1700, 288, 202406281),
    Version(18, 0xD118, XLOG_RECORD_MAX_SIZE, True, 0x02, 0x04, 0x08, 0x10, 1800, 292, 202506291),
)

BY_MAJOR = {row.major: row for row in ROWS}
VERSIONS = tuple(BY_MAJOR)
PAGE_MAGICS = {row.page_magic: row.major for row in ROWS}
MAGIC_OF_VERSION = {row.major: row.page_magic for row in ROWS}
NEWEST = VERSIONS[-1]
RANGE = f"{VERSIONS[0]} to {NEWEST}"
