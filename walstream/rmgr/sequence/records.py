"""Sequence: a sequence's only page, whole (commands/sequence.h, seqdesc.c)."""

from __future__ import annotations

from walstream.rmgr.layout import Layout
from walstream.rmgr.op import Op
from walstream.wal.opcodes import XLOG_SEQ_LOG

OPS = {
    XLOG_SEQ_LOG: (Op(14, "LOG", Layout("locator locator, tuple byte[*]"), "rel {locator}"),),
}
