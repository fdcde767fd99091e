"""GIN (ginxlog.h, gindesc.c); the same in 14 to 18."""

from __future__ import annotations

from walstream.errors import RecordError
from walstream.rmgr.layout import Cursor, Layout
from walstream.rmgr.op import Op
from walstream.rmgr.view import View
from walstream.wal.opcodes import (
    XLOG_GIN_CREATE_PTREE,
    XLOG_GIN_DELETE_LISTPAGE,
    XLOG_GIN_DELETE_PAGE,
    XLOG_GIN_INSERT,
    XLOG_GIN_INSERT_LISTPAGE,
    XLOG_GIN_SPLIT,
    XLOG_GIN_UPDATE_META_PAGE,
    XLOG_GIN_VACUUM_DATA_LEAF_PAGE,
    XLOG_GIN_VACUUM_PAGE,
)

IS_DATA, IS_LEAF, SPLIT_ROOT = 0x01, 0x02, 0x04

INSERT = Layout("flags u16")
SPLIT = Layout("locator locator, rrlink block, left_child block, right_child block, flags u16")
DELETE_PAGE = Layout("parent_offset u16, right_link block, delete_xid xid")
_META = (
    "align8, head block, tail block, tail_free_size u32, pending_pages block, "
    "pending_heap_tuples i64, total_pages block, entry_pages block, data_pages block, "
    "entries i64, gin_version i32, align8"
)
UPDATE_META = Layout(
    f"locator locator, {_META}, prev_tail block, new_right_link block, ntuples i32"
)
DELETE_LIST = Layout(f"{_META}, ndeleted i32")
LIST_PAGE = Layout("right_link block, ntuples i32")


def flag(value: int) -> str:
    return "T" if value else "F"


def payload(view: View) -> bytes:
    data = view.block_data(0)
    if data is None:
        raise RecordError("record without data of block 0")
    return data


def recompress_text(data: bytes) -> str:
    """Returns the actions on the segments of a posting tree leaf (desc_recompress_leaf)."""
    cursor = Cursor(data)
    count = cursor.integer("u16")
    text = f" {count} segments:"
    for _ in range(count):
        segment, action = cursor.integers("u8", 2)
        match action:
            case 4:
                items = cursor.integer("u16")
                cursor.skip(6 * items)
                text += f" {segment} (add {items} items)"
            case 1:
                text += f" {segment} (delete)"
            case 2 | 3:
                # A GinPostingList: first item 6 bytes, length u16, then that many bytes, padded.
                cursor.skip(6)
                length = cursor.integer("u16")
                cursor.skip(length + length % 2)
                text += f" {segment} ({'insert' if action == 2 else 'replace'})"
            case _:
                return f"{text} {segment} unknown action {action} ???"
    return text


def describe_insert(view: View) -> str:
    cursor = Cursor(view.main)
    flags = cursor.integer("u16")
    text = f"isdata: {flag(flags & IS_DATA)} isleaf: {flag(flags & IS_LEAF)}"
    if not flags & IS_LEAF:
        text += f" children: {cursor.integer('blockid')}/{cursor.integer('blockid')}"
    image = view.image_note(0)
    if image is not None:
        return text + image
    data = Cursor(payload(view))
    data.skip(2)
    if not flags & IS_DATA:
        return f"{text} isdelete: {flag(data.integer('u8'))}"
    if flags & IS_LEAF:
        return text + recompress_text(data.data)
    child = data.integer("blockid")
    block = data.integer("blockid")
    return f"{text} pitem: {child}-{block}/{data.integer('u16')}"


def describe_vacuum_leaf(view: View) -> str:
    image = view.image_note(0)
    return image if image is not None else recompress_text(payload(view))


OPS = {
    XLOG_GIN_CREATE_PTREE: (Op(14, "CREATE_PTREE", Layout("size u32")),),
    XLOG_GIN_INSERT: (Op(14, "INSERT", INSERT, describe_insert),),
    XLOG_GIN_SPLIT: (
        Op(
            14,
            "SPLIT",
            SPLIT,
            "isrootsplit: {flags&4:T|F} isdata: {flags&1:T|F} isleaf: {flags&2:T|F}",
        ),
    ),
    XLOG_GIN_VACUUM_PAGE: (Op(14, "VACUUM_PAGE"),),
    XLOG_GIN_DELETE_PAGE: (Op(14, "DELETE_PAGE", DELETE_PAGE),),
    XLOG_GIN_UPDATE_META_PAGE: (Op(14, "UPDATE_META_PAGE", UPDATE_META),),
    XLOG_GIN_INSERT_LISTPAGE: (Op(14, "INSERT_LISTPAGE", LIST_PAGE),),
    XLOG_GIN_DELETE_LISTPAGE: (Op(14, "DELETE_LISTPAGE", DELETE_LIST, "ndeleted: {ndeleted}"),),
    XLOG_GIN_VACUUM_DATA_LEAF_PAGE: (
        Op(14, "VACUUM_DATA_LEAF_PAGE", Layout(), describe_vacuum_leaf),
    ),
}
