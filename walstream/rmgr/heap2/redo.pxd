cimport cython
from walstream.redo.rules.page cimport (
    max_offset, page_init, repair_fragmentation, set_item_id, truncate_line_pointers)
from walstream.redo.rules.target cimport Target
from walstream.rmgr.heap.effects cimport PruneParts
from walstream.rmgr.heap.layout cimport (
    HEAPBLOCKS_PER_PAGE, SizeOfFreezePlan, SizeofHeapTupleHeader, SizeOfMultiInsertTuple, t_cid,
    t_infomask, t_infomask2, t_xmax, xlhp_freeze_plan_frzflags, xlhp_freeze_plan_ntuples,
    xlhp_freeze_plan_t_infomask, xlhp_freeze_plan_t_infomask2, xlhp_freeze_plan_xmax)
from walstream.rmgr.heap.redo cimport heap_at, new_tuple, only_block, put_header, set_lock_bits
from walstream.rmgr.heap.visibilitymap cimport visibility_set
from walstream.wal.buffer cimport move, put16, put32, u8, u16, u32, uint32
from walstream.wal.bufpage cimport (
    FrozenTransactionId, InvalidTransactionId, LP_DEAD, LP_REDIRECT, LP_UNUSED, PD_ALL_VISIBLE,
    pd_flags, pd_upper, set_pd_flags)
from walstream.wal.opcodes cimport (
    VISIBILITYMAP_VALID_BITS, XLH_FREEZE_XVAC, XLH_INSERT_ALL_FROZEN_SET,
    XLH_INSERT_ALL_VISIBLE_CLEARED, XLH_INVALID_XVAC, XLHP_CLEANUP_LOCK, XLOG_HEAP2_FREEZE_PAGE, XLOG_HEAP2_LOCK_UPDATED, XLOG_HEAP2_MULTI_INSERT, XLOG_HEAP2_PRUNE,
    XLOG_HEAP2_VACUUM, XLOG_HEAP2_VISIBLE, XLOG_HEAP_INIT_PAGE)
from walstream.wal.record cimport RecordReader

cdef int heap2_redo(Target t) except -1

@cython.locals(i=int, offset=uint32, to_offset=uint32, limit=uint32)
cdef int set_redirects(Target t, Py_ssize_t at, uint32 count) except -1

@cython.locals(i=int, offset=uint32, limit=uint32)
cdef int set_lines(Target t, Py_ssize_t at, uint32 count, uint32 flags) except -1

cdef int set_pruned(Target t, PruneParts parts) except -1

@cython.locals(parts=PruneParts, redirected=uint32, dead=uint32)
cdef int prune_redo(Target t) except -1

@cython.locals(count=uint32)
cdef int vacuum_redo(Target t) except -1

@cython.locals(at=Py_ssize_t)
cdef int freeze_tuple(Target t, uint32 offset, uint32 xmax, uint32 infomask2, uint32 infomask,
                      uint32 flags) except -1

@cython.locals(count=uint32, i=int, at=Py_ssize_t)
cdef int freeze_redo(Target t) except -1

@cython.locals(plan=Py_ssize_t, i=int, j=uint32, ntuples=uint32)
cdef int freeze_plans(Target t, Py_ssize_t plans, uint32 count, Py_ssize_t offsets, Py_ssize_t end) except -1

@cython.locals(flags=uint32, parts=PruneParts, end=Py_ssize_t)
cdef int prune_freeze_redo(Target t) except -1

@cython.locals(flags=uint32, r=RecordReader, i=int)
cdef int visible_redo(Target t) except -1

@cython.locals(m=Py_ssize_t, at=Py_ssize_t, end=Py_ssize_t, count=uint32, flags=uint32, init=bint,
               i=uint32, offset=uint32, length=uint32, to=Py_ssize_t)
cdef int multi_insert_redo(Target t) except -1

@cython.locals(m=Py_ssize_t, at=Py_ssize_t)
cdef int lock_updated_redo(Target t) except -1
