"""Makes folded states as the index grows: one at every multiple of ``folded.INTERVAL`` of WAL.

Each goes on from the one before, so that it costs what happened since. They are derived: where one
cannot be made nothing is lost but time, and whoever asks for a state folds further himself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from walstream.errors import NoSpace, WalstreamError
from walstream.index.page_index import Batch, PageIndex
from walstream.segments.reader import SegmentReader
from walstream.state.cluster import ClusterState, StateSource
from walstream.state.folded import INTERVAL, folded_pairs, newest_folded, newest_folded_lsn
from walstream.store.base_backup import BaseBackup
from walstream.wal.model import format_lsn

log = logging.getLogger("walstream.index")


class StateFolder:
    """Folds the state of one store. One owner, the one that writes the index.

    Args:
        index: of the store, open for writing.
        archive: its WAL.
        backups: returns its base backups; the state is made from the newest one that is complete
            at an LSN, as whoever asks for that LSN does.
        version: major version of the server.
    """

    def __init__(
        self,
        index: PageIndex,
        archive: SegmentReader,
        backups: Callable[[], Sequence[BaseBackup]],
        version: int,
    ) -> None:
        self._index = index
        self._archive = archive
        self._backups = backups
        self._version = version
        self._state: ClusterState | None = None
        self._folded_lsn = 0
        self._base_lsn = 0
        self._given_up = 0
        self._next = 0

    def step(self, upto_lsn: int) -> None:
        """Makes the states that are due: every record up to ``upto_lsn`` is in the index. Blocks.

        What goes wrong is logged, and the states of that backup are given up until the next start.
        """
        if not self._next:
            self._next = self._begin() // INTERVAL * INTERVAL + INTERVAL
        while self._next <= upto_lsn:
            lsn, self._next = self._next, self._next + INTERVAL
            try:
                self._fold(lsn)
            except NoSpace:
                self._state = None  # made with the next one
            except WalstreamError as error:
                log.warning("the state at %s is not folded: %s", format_lsn(lsn), error)
                self._state, self._given_up = None, self._base_lsn

    def _begin(self) -> int:
        """Returns the LSN of the newest state that there is, else where the index begins."""
        begun = int(self._index.meta("start_lsn") or 0)
        try:
            bases = [backup.start_lsn for backup in self._backups()]
        except WalstreamError:
            bases = []  # told when one is to be made
        return max([begun, *(newest_folded_lsn(self._index, base) for base in bases)])

    def taken_back(self) -> None:
        """Says that the index was taken back: what was folded may be of a branch that is dead."""
        self._state, self._next = None, 0

    def _fold(self, lsn: int) -> None:
        fitting = [backup for backup in self._backups() if backup.stop_lsn <= lsn]
        if not fitting:
            return
        backup = max(fitting, key=lambda one: one.stop_lsn)
        index, base_lsn = self._index, backup.start_lsn
        if base_lsn == self._given_up or index.first_wall(backup.first_needed_lsn, lsn) is not None:
            return
        source = StateSource(index, self._archive, backup, self._version)
        state = self._state
        if state is None or base_lsn != self._base_lsn:
            self._base_lsn = base_lsn
            folded = newest_folded(index, base_lsn)
            if folded is not None and folded.lsn >= lsn:
                return
            state = ClusterState(source, folded)
            self._folded_lsn = backup.first_needed_lsn if folded is None else folded.lsn
        self._state = None  # until it is whole again
        state.apply_all(index, self._folded_lsn, lsn)
        pages = {name: list(area.changes()) for name, area in state.transactions.areas.items()}
        folded = state.fold(index, base_lsn, lsn)
        batch = Batch()
        batch.pairs = list(folded_pairs(base_lsn, folded, pages))
        index.write(batch)
        self._state, self._folded_lsn = state, lsn
