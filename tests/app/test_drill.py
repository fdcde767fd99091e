"""Which moments a drill takes where nobody names one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages.test_bases import STOP
from tests.pages.test_kept_moments import END, GONE, KEPT_TO, MOMENTS, parted
from walstream.app.drill import random_lsn
from walstream.errors import LsnNotAvailable


def test_a_moment_that_gc_left(tmp_path: Path) -> None:
    service = parted(tmp_path)
    chosen = {service.planner.check_lsn(random_lsn(service)) for _ in range(2000)}
    assert any(lsn <= KEPT_TO for lsn in chosen) and any(lsn > GONE[1] for lsn in chosen)
    assert min(chosen) >= STOP and max(chosen) <= END
    for lsn in GONE:
        with pytest.raises(LsnNotAvailable):
            service.planner.check_lsn(lsn)


def test_a_moment_where_gc_took_nothing(tmp_path: Path) -> None:
    service = parted(tmp_path, ())
    for _ in range(100):
        assert STOP <= service.planner.check_lsn(random_lsn(service)) <= END
    service.replace_bases(service.bases, MOMENTS[1:])
    assert random_lsn(service) >= MOMENTS[1].from_lsn
