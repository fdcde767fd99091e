"""Sequence: a sequence's only page, whole (commands/sequence.h, seqdesc.c)."""

from __future__ import annotations

from walstream.rmgr.layout import Layout
from walstream.rmgr.op import Op

OPS = {
    0x00: (Op(14, "LOG", Layout("locator locator, tuple byte[*]"), "rel {locator}"),),
}
