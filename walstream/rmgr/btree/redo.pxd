cimport cython
from walstream.redo.rules.index_layout cimport SizeOfIndexTupleData, t_info, t_tid
from walstream.redo.rules.index_tuple cimport aligned_length
from walstream.redo.rules.page cimport (
    add_item, expect_special, index_multi_delete, index_tuple_delete, item_at, item_length,
    max_offset)
from walstream.redo.rules.target cimport Target
from walstream.rmgr.btree.layout cimport (
    btm_allequalimage, btm_last_cleanup_num_heap_tuples, btm_magic, btm_version, BTP_DELETED,
    BTP_HALF_DEAD, BTP_HAS_FULLXID, BTP_HAS_GARBAGE, BTP_INCOMPLETE_SPLIT, BTP_LEAF, BTP_META,
    BTP_ROOT, BTPageOpaque, btpo_cycleid, btpo_flags, btpo_next, btpo_prev, BTREE_MAGIC,
    deleted_safexid, EndOfBTDeletedPage, EndOfBTMetaPage, INDEX_ALT_TID_MASK, P_FIRSTKEY, P_HIKEY,
    P_NONE, SizeOfBTPageOpaque)
from walstream.rmgr.btree.page cimport (
    append, begin_scratch, copy_item, end_scratch, init_page, merge_items, restore_items,
    swap_posting, update_posting)
from walstream.wal.buffer cimport (
    move, put8, put16, put32, put64, put_f64, u8, u16, u32, u64, uint32)
from walstream.wal.bufpage cimport (
    item_id_at, line_pointer, LP_NORMAL, put_block, set_pd_lower, set_pd_upper)
from walstream.wal.layout cimport SizeOfBlockNumber
from walstream.wal.opcodes cimport (
    XLOG_BTREE_DEDUP, XLOG_BTREE_DELETE, XLOG_BTREE_INSERT_LEAF, XLOG_BTREE_INSERT_META,
    XLOG_BTREE_INSERT_POST, XLOG_BTREE_INSERT_UPPER, XLOG_BTREE_MARK_PAGE_HALFDEAD,
    XLOG_BTREE_META_CLEANUP, XLOG_BTREE_NEWROOT, XLOG_BTREE_REUSE_PAGE, XLOG_BTREE_SPLIT_L,
    XLOG_BTREE_SPLIT_R, XLOG_BTREE_UNLINK_PAGE, XLOG_BTREE_UNLINK_PAGE_META, XLOG_BTREE_VACUUM)


@cython.locals(op=uint32)
cdef int btree_redo(Target t) except -1

cdef int restore_meta(Target t) except -1
cdef int clear_incomplete_split(Target t) except -1
cdef int insert_leaf(Target t) except -1
cdef int insert_upper(Target t) except -1

@cython.locals(offset=uint32, new=Py_ssize_t)
cdef int insert_posting(Target t) except -1

@cython.locals(level=uint32, right=uint32)
cdef int split(Target t) except -1

@cython.locals(first_right=uint32, new_offset=uint32, position=int, on_left=bint, new=Py_ssize_t,
               new_size=Py_ssize_t, key_size=Py_ssize_t, replaced=uint32, new_at=int, posting=int,
               posting_length=uint32, offset=uint32)
cdef int split_left(Target t) except -1

@cython.locals(intervals=int, offset=int, last=int, k=int, items=int)
cdef int dedup(Target t) except -1

@cython.locals(deleted=int, updated=int, numbers=Py_ssize_t, update=Py_ssize_t, end=Py_ssize_t, i=int)
cdef int delete_items(Target t, int at) except -1

cdef int half_dead_leaf(Target t, uint32 left, uint32 right, uint32 top_parent) except -1

@cython.locals(offset=uint32, next_at=int, at=int)
cdef int mark_half_dead(Target t) except -1

@cython.locals(at=Py_ssize_t, flags=uint32)
cdef int unlink_page(Target t) except -1

@cython.locals(level=uint32)
cdef int new_root(Target t) except -1
