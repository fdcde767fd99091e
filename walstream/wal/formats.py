"""The table of ``versions.py`` for kernels: C arrays that they read without the interpreter."""

from __future__ import annotations

import cython

from walstream.wal.versions import ROWS


class Formats:
    """The table by row, oldest version first; see ``Version`` for what the columns are."""

    def __init__(self) -> None:
        self.count = len(ROWS)
        if not cython.compiled:
            self.major = [0] * self.count
            self.page_magic = [0] * self.count
            self.max_record_length = [0] * self.count
            self.custom_rmgrs = [False] * self.count
            self.image_apply = [0] * self.count
            self.image_pglz = [0] * self.count
            self.image_lz4 = [0] * self.count
            self.image_zstd = [0] * self.count
        if self.count > 16:
            raise ValueError(f"versions: expected at most 16, got {self.count}")
        for i in range(self.count):
            self.major[i] = ROWS[i].major
            self.page_magic[i] = ROWS[i].page_magic
            self.max_record_length[i] = ROWS[i].max_record_length
            self.custom_rmgrs[i] = ROWS[i].custom_rmgrs
            self.image_apply[i] = ROWS[i].image_apply
            self.image_pglz[i] = ROWS[i].image_pglz
            self.image_lz4[i] = ROWS[i].image_lz4
            self.image_zstd[i] = ROWS[i].image_zstd


FORMATS = Formats()


def row_of(version: int) -> int:
    """Returns the row whose formats a version has.

    That of the next older version for one that is not in the table, the oldest for none below it;
    the newest where the version is not known yet (0).
    """
    i = FORMATS.count - 1
    while version != 0 and i > 0 and FORMATS.major[i] > version:
        i -= 1
    return i


def magic_of(version: int) -> int:
    """Returns XLOG_PAGE_MAGIC of a major version, 0 for an unknown one."""
    for i in range(FORMATS.count):
        if FORMATS.major[i] == version:
            return FORMATS.page_magic[i]
    return 0


def version_of(magic: int) -> int:
    """Returns the major version that a page magic belongs to, 0 for an unknown one."""
    for i in range(FORMATS.count):
        if FORMATS.page_magic[i] == magic:
            return FORMATS.major[i]
    return 0
