cimport cython
from walstream.redo.rules.page cimport check_pointers, item_id, max_offset, page_init
from walstream.redo.rules.target cimport Target
from walstream.rmgr.heap.layout cimport (
    HEAP_COMBOCID, HEAP_HOT_UPDATED, HEAP_KEYS_UPDATED, HEAP_LOCK_MASK, HEAP_MOVED, HEAP_XMAX_BITS,
    HEAP_XMAX_EXCL_LOCK, HEAP_XMAX_IS_MULTI, HEAP_XMAX_KEYSHR_LOCK, HEAP_XMAX_LOCK_ONLY,
    MaxHeapTupleSize, MaxHeapTuplesPerPage, MovedPartitionsOffsetNumber, SizeOfHeapHeader,
    SizeofHeapTupleHeader, t_cid, t_ctid, t_ctid_offset, t_hoff, t_infomask, t_infomask2, t_xmax,
    t_xmin)
from walstream.wal.buffer cimport byte, move, put8, put16, put32, u8, u16, u32, uint32
from walstream.wal.bufpage cimport (
    BLCKSZ, FirstNormalTransactionId, InvalidBlockNumber, InvalidTransactionId, item_id_at,
    line_pointer, lp_flags, lp_in_use, lp_len, LP_NORMAL, lp_off, maxalign, PD_ALL_VISIBLE,
    pd_flags, pd_lower, pd_prune_xid, pd_upper, put_block, set_pd_flags, set_pd_lower,
    set_pd_prune_xid, set_pd_upper, SizeOfItemIdData, SizeOfPageHeaderData)
from walstream.wal.opcodes cimport (
    XLH_DELETE_ALL_VISIBLE_CLEARED, XLH_DELETE_IS_PARTITION_MOVE, XLH_DELETE_IS_SUPER,
    XLH_INSERT_ALL_FROZEN_SET, XLH_INSERT_ALL_VISIBLE_CLEARED, XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED,
    XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED, XLH_UPDATE_PREFIX_FROM_OLD, XLH_UPDATE_SUFFIX_FROM_OLD,
    XLHL_KEYS_UPDATED, XLHL_XMAX_EXCL_LOCK, XLHL_XMAX_IS_MULTI, XLHL_XMAX_KEYSHR_LOCK,
    XLHL_XMAX_LOCK_ONLY, XLOG_HEAP_CONFIRM, XLOG_HEAP_DELETE, XLOG_HEAP_HOT_UPDATE,
    XLOG_HEAP_INIT_PAGE, XLOG_HEAP_INPLACE, XLOG_HEAP_INSERT, XLOG_HEAP_LOCK, XLOG_HEAP_OPMASK,
    XLOG_HEAP_UPDATE)
from walstream.wal.record cimport RecordReader

@cython.locals(lp=uint32, at=uint32)
cdef int heap_at(const byte* page, uint32 offset) except -1

cdef int put_ctid(byte* page, Py_ssize_t at, uint32 block, uint32 offset) noexcept

@cython.locals(old=uint32)
cdef int set_prunable(byte* page, uint32 xid) noexcept

@cython.locals(infomask=uint32, infomask2=uint32)
cdef int set_lock_bits(byte* page, Py_ssize_t at, uint32 infobits) noexcept

@cython.locals(lower=uint32, upper=uint32, limit=uint32, aligned=uint32)
cdef int new_tuple(byte* page, uint32 offset, uint32 size) except -1

cdef int put_header(byte* page, Py_ssize_t to, uint32 xmin, uint32 xmax, uint32 block, uint32 offset,
                    uint32 infomask2, uint32 infomask, uint32 hoff) noexcept

cdef int only_block(Target t) except -1

@cython.locals(at=Py_ssize_t, offset=uint32, to=Py_ssize_t, flags=uint32, body=uint32)
cdef int insert_redo(Target t) except -1

@cython.locals(at=Py_ssize_t, m=Py_ssize_t, offset=uint32, flags=uint32)
cdef int delete_redo(Target t) except -1

@cython.locals(new_block=uint32, old_block=uint32, r=RecordReader, i=int)
cdef int update_redo(Target t) except -1

@cython.locals(m=Py_ssize_t, at=Py_ssize_t)
cdef int update_old(Target t, uint32 new_block) except -1

@cython.locals(m=Py_ssize_t, at=Py_ssize_t, end=Py_ssize_t, flags=uint32, offset=uint32, prefix=uint32,
               suffix=uint32, infomask=uint32, infomask2=uint32, hoff=uint32, body=uint32, head=uint32,
               old=Py_ssize_t, old_length=uint32, old_hoff=uint32, to=Py_ssize_t)
cdef int update_new(Target t, bint same_page) except -1

@cython.locals(m=Py_ssize_t, at=Py_ssize_t, offset=uint32, infomask=uint32)
cdef int lock_redo(Target t) except -1

@cython.locals(at=Py_ssize_t, offset=uint32)
cdef int confirm_redo(Target t) except -1

@cython.locals(at=Py_ssize_t, offset=uint32, length=uint32, hoff=uint32)
cdef int inplace_redo(Target t) except -1

cdef int heap_redo(Target t) except -1
