"""Whatever happens in whatever order, and wherever gc is killed: what was promised is there."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.synthetic_store import SEGMENT, SyntheticStore, times_at, write_branch
from walstream.errors import StoreError
from walstream.retention.plan import Policy, make_plan
from walstream.retention.survey import survey
from walstream.retention.tombstones import apply_plan, condemn, sweep, tombstones, undo
from walstream.store.base_backup import list_base_backups
from walstream.store.file_layer import FileLayer
from walstream.store.holds import Hold, release_hold, write_hold
from walstream.store.leases import Lease, closed_gate
from walstream.store.removed import Moments, answerable, read_removed

NOW = datetime(2026, 11, 30, tzinfo=UTC)
CALLS = ("open", "rename", "unlink", "fsync", "fsync_directory", "write")


class Killed(BaseException):
    """The process ends here."""


class Mortal(FileLayer):
    """The file system of a process that is killed at its ``steps``-th call; None: never."""

    def __init__(self, steps: int | None) -> None:
        self.left = steps

    def __getattribute__(self, name: str) -> object:
        if name in CALLS and self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed
        return super().__getattribute__(name)


STEPS = st.one_of(st.none(), st.integers(0, 40))


class Retention(RuleBasedStateMachine):
    """Runs a store beside a list of what was promised of it."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp())
        self.synthetic = SyntheticStore(self.place / "store")
        self.synthetic.take_base()
        self.now = NOW
        # Every moment from here on; single moments that the last gc kept; holds; leases.
        self.window = self.synthetic.latest
        self.kept: set[int] = set()
        self.holds: dict[str, tuple[int, int]] = {}
        self.branches: dict[str, int] = {}
        self.leases: list[tuple[Lease, int]] = []
        self.unfinished: list[tuple[int, int]] = []
        # What could be had before each gc that can still be taken back.
        self.before: dict[str, set[int]] = {}
        self.number = 0

    def teardown(self) -> None:
        for lease, _ in self.leases:
            lease.release()
        shutil.rmtree(self.place)

    # -- what happens

    @rule(length=st.integers(1, 3 * SEGMENT))
    def receive(self, length: int) -> None:
        self.synthetic.receive(length)

    @rule(length=st.integers(1, SEGMENT), back=st.integers(0, SEGMENT))
    def take_base(self, length: int, back: int) -> None:
        first = min(needed for needed, *_ in self.synthetic.bases())
        wal_from = max(self.synthetic.latest - back, first)
        whole = self.synthetic.has_wal(wal_from, self.synthetic.latest)
        self.synthetic.take_base(length, wal_from if whole and back else None)

    @precondition(lambda self: len(self.unfinished) < 2)
    @rule()
    def begin_base(self) -> None:
        start = self.synthetic.begin_base()
        self.unfinished.append((start, self.synthetic.timeline))
        self.synthetic.receive(1)

    @precondition(lambda self: self.unfinished)
    @rule()
    def finish_base(self) -> None:
        self.synthetic.finish_base(*self.unfinished.pop(0))

    @precondition(lambda self: not self.unfinished)
    @rule(back=st.integers(0, 2 * SEGMENT))
    def promote(self, back: int) -> None:
        newest = max(stop for _, _, stop, _ in self.synthetic.bases())
        pinned = [lsn for _, lsn in self.leases] + [lsn for _, lsn in self.holds.values()]
        pinned += self.branches.values()
        forked = self.synthetic.history.parts[-1].begin
        switch = max(newest, self.synthetic.latest - back, forked + 1, *pinned)
        if switch > self.synthetic.latest:
            return
        self.synthetic.promote(switch)
        self.window = min(self.window, switch)

    @rule(
        window=st.floats(0, 1),
        by_size=st.booleans(),
        daily=st.integers(0, 3),
        monthly=st.integers(0, 1),
        steps=STEPS,
    )
    def gc(self, window: float, by_size: bool, daily: int, monthly: int, steps: int | None) -> None:
        store, synthetic = self.synthetic.store, self.synthetic
        self.now += timedelta(seconds=7)
        span = synthetic.latest - synthetic.begin
        asked = synthetic.begin + int(span * window)
        policy = Policy(
            None if by_size else asked,
            int(span * window) + 10_000 if by_size else None,
            daily,
            0,
            monthly,
        )
        before = self.there()
        with closed_gate(store.path):
            plan = make_plan(
                survey(store, synthetic.latest, synthetic.latest, times_at, self.now), policy
            )
            self.window = max(self.window, plan.window_lsn)
            self.kept = self.points(daily, "%Y-%m-%d") | self.points(monthly, "%Y-%m")
            marks = {each.mark for each in tombstones(store.path)}
            try:
                apply_plan(store, plan, self.now, Mortal(steps))
            except Killed:
                pass
            else:
                again = make_plan(
                    survey(store, synthetic.latest, synthetic.latest, times_at, self.now), policy
                )
                assert not again.going
        lowest = plan.window_lsn if by_size else asked
        assert not [lsn for lsn in before if lsn >= lowest and not synthetic.is_there(lsn)]
        for mark in {each.mark for each in tombstones(store.path)} - marks:
            self.before[mark] = before

    def points(self, count: int, form: str) -> set[int]:
        """Returns the ends of the newest base of each day or month, by another way."""
        newest: dict[str, int] = {}
        for needed, _, stop, timeline in self.synthetic.bases():
            parts = [p for p in self.synthetic.history.parts if p.timeline == timeline]
            if parts and stop <= parts[0].end and self.synthetic.has_wal(needed, stop):
                time = times_at([stop])[0]
                assert time is not None
                label = datetime.fromtimestamp(time, UTC).strftime(form)
                newest[label] = max(newest.get(label, 0), stop)
        return {newest[label] for label in sorted(newest, reverse=True)[:count]}

    @precondition(lambda self: self.before)
    @rule(data=st.data(), steps=STEPS)
    def undo(self, data: st.DataObject, steps: int | None) -> None:
        mark = data.draw(st.sampled_from(sorted(self.before)))
        with closed_gate(self.synthetic.path):
            try:
                undo(self.synthetic.store, mark, Mortal(steps))
            except Killed:
                return
            except StoreError:
                # An undo that was killed at its last step had brought all of it back.
                assert mark not in {each.mark for each in tombstones(self.synthetic.path)}
        wanted = {lsn for lsn in self.before[mark] if lsn <= self.synthetic.latest}
        assert not [lsn for lsn in wanted if not self.synthetic.is_there(lsn)], mark
        self.before = {known: lsns for known, lsns in self.before.items() if known < mark}

    @rule(seconds=st.integers(0, 60), steps=STEPS)
    def sweep(self, seconds: int, steps: int | None) -> None:
        due = self.now - timedelta(seconds=seconds)
        mortal = Mortal(steps)
        try:
            with closed_gate(self.synthetic.path):
                condemn(self.synthetic.path, due, mortal)
            sweep(self.synthetic.path, mortal)
        except Killed:
            pass
        else:
            assert not list(self.synthetic.path.rglob("*.swept"))
        left = {each.mark for each in tombstones(self.synthetic.path) if not each.swept}
        # What was half deleted cannot be wholly taken back.
        swept = [
            mark
            for mark in self.before
            if datetime.strptime(mark, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) <= due
            or mark not in left
        ]
        for mark in swept:
            del self.before[mark]

    @precondition(lambda self: len(self.holds) < 3)
    @rule(first=st.floats(0, 1), length=st.integers(0, 2 * SEGMENT))
    def hold(self, first: float, length: int) -> None:
        begin, end = self.range(first, length)
        moments = [m for m in self.moments() if m.has(begin) and m.has(end)]
        if not moments:
            return
        self.number += 1
        name = f"h{self.number}"
        write_hold(
            self.synthetic.path,
            Hold(
                name,
                begin,
                end,
                NOW + timedelta(days=1),
                "audit",
                "",
                NOW,
            ),
        )
        self.holds[name] = begin, end

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.holds)))
        release_hold(self.synthetic.path, name)
        del self.holds[name]

    @precondition(lambda self: len(self.branches) < 2)
    @rule(at=st.floats(0, 1))
    def branch(self, at: float) -> None:
        lsn, _ = self.range(at, 0)
        if any(moments.has(lsn) for moments in self.moments()):
            self.number += 1
            name = f"b{self.number}"
            write_branch(self.synthetic.path, name, lsn)
            self.branches[name] = lsn

    @precondition(lambda self: self.branches)
    @rule(data=st.data())
    def drop_branch(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.branches)))
        shutil.rmtree(self.synthetic.path / "branches" / name)
        del self.branches[name]

    @precondition(lambda self: len(self.leases) < 3)
    @rule(at=st.floats(0, 1), narrow=st.booleans())
    def read(self, at: float, narrow: bool) -> None:
        lsn, _ = self.range(at, 0)
        lease = Lease(self.synthetic.path)
        assert lease.held
        if not any(moments.has(lsn) for moments in self.moments()):
            lease.release()
            return
        backups = list_base_backups(self.synthetic.base)
        base = max((b for b in backups if b.stop_lsn <= lsn), key=lambda b: b.stop_lsn)
        if narrow:
            lease.narrow(base.first_needed_lsn, lsn)
        self.leases.append((lease, lsn))

    @precondition(lambda self: self.leases)
    @rule()
    def end_reading(self) -> None:
        lease, _ = self.leases.pop()
        lease.release()

    # -- what must be so

    def range(self, first: float, length: int) -> tuple[int, int]:
        begin = self.synthetic.begin
        at = begin + int((self.synthetic.latest - begin) * first)
        return at, min(at + length, self.synthetic.latest)

    def moments(self) -> tuple[Moments, ...]:
        """Returns what a reader says can be had."""
        backups = list_base_backups(self.synthetic.base)
        return answerable(backups, read_removed(self.synthetic.wal))

    def samples(self) -> set[int]:
        """Returns moments to try: ends of bases, ends and middles of segments, the newest."""
        begin, latest = self.synthetic.begin, self.synthetic.latest
        ends = {stop for _, _, stop, _ in self.synthetic.bases()}
        return {latest, *ends, *range(begin, latest, SEGMENT // 2)}

    def there(self) -> set[int]:
        return {lsn for lsn in self.samples() if self.synthetic.is_there(lsn)}

    @invariant()
    def what_was_promised_is_there(self) -> None:
        moments = self.moments()
        wanted = {lsn for lsn in self.samples() if lsn >= self.window} | self.kept
        for begin, end in self.holds.values():
            wanted |= {begin, (begin + end) // 2, end}
        wanted |= {lsn for _, lsn in self.leases} | set(self.branches.values())
        for lsn in wanted:
            assert self.synthetic.is_there(lsn), f"{lsn:X} is gone"
            assert any(each.has(lsn) for each in moments), f"{lsn:X} is denied"

    @invariant()
    def what_a_reader_says_is_true(self) -> None:
        moments = self.moments()
        for lsn in self.samples():
            if any(each.has(lsn) for each in moments):
                assert self.synthetic.is_there(lsn), f"{lsn:X} is not there"


Retention.TestCase.settings = settings(
    max_examples=60,
    report_multiple_bugs=False,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestRetention = Retention.TestCase
