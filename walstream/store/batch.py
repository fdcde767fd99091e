"""One job of the writer's thread: chunks to verify and write, and a flush where it is time."""

from __future__ import annotations

from collections.abc import Sequence

from walstream.store.wal_files import WalFiles
from walstream.wal.model import WalChunk


class Batch:
    """A job for the writer's thread: chunks to verify and write, then perhaps a flush.

    After ``NoSpace`` it can be run again. A flush that would wait for a segment's completion is put
    off (``flush_put_off``), so that more can be written meanwhile, unless ``at_once``.
    """

    def __init__(
        self,
        files: WalFiles,
        chunks: Sequence[WalChunk],
        *,
        flush: bool = False,
        at_once: bool = False,
    ) -> None:
        self.files = files
        self.flush_put_off = False
        self._chunks = chunks
        self._flush = flush
        self._at_once = at_once

    def __call__(self) -> None:
        chunks, self._chunks = self._chunks, ()
        self.files.feed(chunks)
        self.files.write()
        self.flush_put_off = self._flush and self.files.is_completing and not self._at_once
        if self._flush and not self.flush_put_off:
            self.files.flush()
