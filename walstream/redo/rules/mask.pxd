cimport cython
from walstream.redo.rules.page cimport check_pointers, item_id, max_offset
from walstream.rmgr.brin.layout cimport (
    BRIN_EVACUATE_PAGE, brin_flags, BRIN_PAGETYPE_META, BRIN_PAGETYPE_REGULAR, brin_type,
    BrinSpecialSpace, SizeOfBrinSpecialSpace)
from walstream.rmgr.btree.layout cimport (
    BTP_HAS_GARBAGE, BTP_LEAF, BTP_SPLIT_END, BTPageOpaque, btpo_cycleid, btpo_flags,
    SizeOfBTPageOpaque)
from walstream.rmgr.gin.layout cimport (
    GIN_DELETED, gin_flags, GinPageOpaque, SizeOfGinPageOpaque)
from walstream.rmgr.gist.layout cimport (
    F_FOLLOW_RIGHT, F_HAS_GARBAGE, F_LEAF, gist_flags, gist_nsn, GISTPageOpaque,
    SizeOfGISTPageOpaque)
from walstream.rmgr.hash.layout cimport (
    hasho_flag, HashPageOpaque, LH_BUCKET_PAGE, LH_OVERFLOW_PAGE, LH_PAGE_HAS_DEAD_TUPLES,
    LH_PAGE_TYPE, LH_UNUSED_PAGE, SizeOfHashPageOpaque)
from walstream.rmgr.heap.layout cimport (
    HEAP_COMBOCID, HEAP_HINT_BITS, HEAP_XACT_MASK, HEAP_XMAX_COMMITTED, HEAP_XMAX_INVALID,
    HEAP_XMIN_FROZEN, SizeofHeapTupleHeader, SpecTokenOffsetNumber, t_cid, t_ctid, t_ctid_offset,
    t_infomask)
from walstream.wal.buffer cimport byte, fill, put16, put32, u16, uint32, writable_of
from walstream.wal.bufpage cimport (
    BLCKSZ, InvalidTransactionId, item_id_at, line_pointer, lp_flags, lp_len, LP_NORMAL, lp_off,
    LP_UNUSED, maxalign, PD_ALL_VISIBLE, pd_flags, pd_flags_at, PD_HAS_FREE_LINES, pd_lower,
    PD_PAGE_FULL, pd_special, pd_upper, put_block, set_pd_flags, set_pd_lower, set_pd_prune_xid,
    set_pd_upper, SizeOfPageHeaderData)
from walstream.wal.layout cimport (
    RM_BRIN_ID, RM_BTREE_ID, RM_GIN_ID, RM_GIST_ID, RM_HASH_ID, RM_HEAP2_ID, RM_HEAP_ID, RM_SEQ_ID)

cdef int mask_hole(byte* page) except -1
cdef int mask_hints(byte* page) noexcept
cdef int mask_content(byte* page) noexcept

@cython.locals(i=int, count=int, lp=uint32)
cdef int mask_line_flags(byte* page) noexcept

@cython.locals(i=int, count=int, lp=uint32, at=uint32, length=uint32, infomask=uint32)
cdef int mask_heap(byte* page, uint32 block, bint strict) except -1

cdef int special_area(byte* page, uint32 size) except -1

@cython.locals(shift=int, flags=uint32)
cdef int mask_btree(byte* page) except -1

@cython.locals(shift=int, flags=uint32, kind=uint32)
cdef int mask_hash(byte* page) except -1

@cython.locals(shift=int)
cdef int mask_gin(byte* page) except -1

@cython.locals(shift=int, flags=uint32)
cdef int mask_gist(byte* page) except -1

@cython.locals(shift=int, kind=uint32, flags=uint32)
cdef int mask_brin(byte* page) except -1

cdef int mask_in_place(byte* page, uint32 rmgr, uint32 block, bint strict) except -1
