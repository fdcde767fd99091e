"""A store without a server: files with the right names, and an oracle that knows no plan."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from tests.index.stored import end_list
from walstream.index import keys
from walstream.index.ends import End
from walstream.index.page_index import Batch, PageIndex
from walstream.retention.contents import Contents
from walstream.retention.plan import Plan, Policy, make_plan
from walstream.retention.survey import survey
from walstream.segments.names import history_file_name, segment_file_name
from walstream.store.store import Store, StoreIdentity
from walstream.wal.model import POSTGRES_EPOCH_S, format_lsn
from walstream.wal.opcodes import XLOG_XACT_COMMIT
from walstream.wal.timeline import TimelineHistory, parse_history

SEGMENT = 1 << 20
# What one byte of WAL takes, in seconds: a segment takes two hours.
SECONDS = 7200 / SEGMENT
EPOCH = 1_780_000_000


def times_at(lsns: Sequence[int]) -> list[float | None]:
    """Returns when the cluster was at each LSN."""
    return [EPOCH + lsn * SECONDS for lsn in lsns]


def write_branch(store: Path, name: str, lsn: int) -> Path:
    """Makes the least of a branch: what gc reads of it."""
    path = store / "branches" / name / "branch.toml"
    path.parent.mkdir(parents=True)
    path.write_text(f'lsn = "{format_lsn(lsn)}"\n')
    return path


class SyntheticStore:
    """A store that grows as a receiver makes it grow. ``latest`` is the newest moment."""

    def __init__(self, path: Path, begin: int = 3 * SEGMENT) -> None:
        with Store.create(path, StoreIdentity(77, 18, SEGMENT, 8192, True, True)):
            pass
        self.path = path
        self.store = Store.open(path, lock=False)
        self.timeline = 1
        self.history_lines = ""
        self.begin = self.latest = begin
        self._write_partial()

    @property
    def wal(self) -> Path:
        return self.path / "wal"

    @property
    def base(self) -> Path:
        return self.path / "base"

    @property
    def history(self) -> TimelineHistory:
        return parse_history(self.timeline, self.history_lines.encode())

    def name(self, number: int) -> str:
        return segment_file_name(self.timeline, number, SEGMENT)

    def _write_partial(self) -> None:
        self._touch(self.wal / f"{self.name(self.latest // SEGMENT)}.partial", SEGMENT)

    @staticmethod
    def _touch(path: Path, size: int) -> None:
        with path.open("wb") as file:
            file.truncate(size)

    def receive(self, length: int) -> None:
        """WAL comes in."""
        first, last = self.latest // SEGMENT, (self.latest + length) // SEGMENT
        for number in range(first, last):
            partial = self.wal / f"{self.name(number)}.partial"
            if partial.exists():
                partial.rename(self.wal / self.name(number))
            else:
                self._touch(self.wal / self.name(number), SEGMENT)
        self.latest += length
        self._write_partial()

    def begin_base(self) -> int:
        start = self.latest
        (self.base / f"{start:016X}.tmp").mkdir()
        return start

    def finish_base(self, start: int, timeline: int, wal_from: int | None = None) -> None:
        """A base backup that began at ``start`` ends at ``latest``."""
        directory = self.base / f"{start:016X}"
        (self.base / f"{start:016X}.tmp").rename(directory)
        (directory / "PG_VERSION").write_text("18\n" * 1000)
        description = (
            f'start_lsn = "{format_lsn(start)}"\nstop_lsn = "{format_lsn(self.latest)}"\n'
            f'checkpoint_lsn = "{format_lsn(start)}"\ntimeline = {timeline}\n'
        )
        if wal_from is not None:
            description += f'wal_from = "{format_lsn(wal_from)}"\n'
        directory.with_suffix(".toml").write_text(description)

    def take_base(self, length: int = 1000, wal_from: int | None = None) -> int:
        start = self.begin_base()
        self.receive(length)
        self.finish_base(start, self.timeline, wal_from)
        return start

    def promote(self, switch: int) -> None:
        """Another server takes over at ``switch``: what was received beyond is set aside."""
        first = switch // SEGMENT
        old = [path for path in self.wal.iterdir() if path.is_file() and len(path.name) >= 24]
        dead = self.wal / "dead"
        for path in old:
            if path.suffix == ".gone" or path.name[:8] != f"{self.timeline:08X}":
                continue
            number = int(path.name[8:16], 16) * 4096 + int(path.name[16:24], 16)
            complete = path.suffix == ""
            if number > first or (number == first and complete):
                dead.mkdir(exist_ok=True)
                path.rename(dead / path.name)
        self.history_lines += f"{self.timeline}\t{format_lsn(switch)}\tno reason\n"
        self.timeline += 1
        self.latest = switch
        (self.wal / history_file_name(self.timeline)).write_text(self.history_lines)
        self._write_partial()

    def make_index(self, commits: Sequence[int] = ()) -> None:
        """Makes an index that has come to the newest moment, with commits that end at LSNs."""
        batch = Batch()
        for xid, (lsn, seconds) in enumerate(zip(commits, times_at(commits), strict=True), 700):
            assert seconds is not None
            time_us = int((seconds - POSTGRES_EPOCH_S) * 1e6)
            end = End(lsn, lsn - 40, xid, time_us, XLOG_XACT_COMMIT)
            batch.pairs += [end_list([end]), (keys.TIME_KEY.pack(b"t", time_us, lsn), b"")]
        batch.meta = {
            "start_lsn": str(self.begin).encode(),
            "last_record_end": str(self.latest).encode(),
            "last_record_start": str(self.latest - 40).encode(),
        }
        with closing(PageIndex(self.store.index_path)) as index:
            index.write(batch)

    def contents(self, **changes: object) -> Contents:
        return survey(self.store, self.latest, self.latest, times_at)._replace(**changes)  # type: ignore[arg-type]

    def plan(self, policy: Policy) -> Plan:
        return make_plan(self.contents(), policy)

    # -- the oracle: what is on the disk, looked at plainly

    def bases(self) -> list[tuple[int, int, int, int]]:
        """Returns (first needed, start, stop, timeline) of the bases in sight."""
        found = []
        for description in self.base.glob("????????????????.toml"):
            if not description.with_suffix("").is_dir():
                continue
            words = dict(line.split(" = ") for line in description.read_text().splitlines())
            lsns = {key: self._lsn(value) for key, value in words.items() if "/" in value}
            start = lsns["start_lsn"]
            needed = min(start, lsns.get("wal_from", start))
            found.append((needed, start, lsns["stop_lsn"], int(words["timeline"])))
        return sorted(found)

    @staticmethod
    def _lsn(text: str) -> int:
        high, low = text.strip('"').split("/")
        return int(high, 16) << 32 | int(low, 16)

    def has_wal(self, begin: int, end: int) -> bool:
        """Returns whether all WAL ``[begin, end)`` of the server's path is in sight."""
        for number in range(begin // SEGMENT, -(-end // SEGMENT)):
            at = number * SEGMENT
            parts = [p for p in self.history.parts if p.begin < at + SEGMENT and at < p.end]
            name = segment_file_name(parts[-1].timeline, number, SEGMENT)
            whole = (self.wal / name).exists()
            newest = number == self.latest // SEGMENT and (self.wal / f"{name}.partial").exists()
            if not whole and not newest:
                return False
        return True

    def is_there(self, lsn: int) -> bool:
        """Returns whether the moment ``lsn`` can be made from what is in sight."""
        parts = {part.timeline: part for part in self.history.parts}
        return lsn <= self.latest and any(
            stop <= lsn
            and timeline in parts
            and stop <= parts[timeline].end
            and self.has_wal(needed, lsn)
            for needed, _, stop, timeline in self.bases()
        )

    def names(self) -> list[str]:
        """Returns all names below the store."""
        return sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*"))
