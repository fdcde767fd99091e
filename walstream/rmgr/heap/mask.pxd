cimport cython
from walstream.redo.rules.bufmask cimport mask_page_hint_bits, mask_unused_space
from walstream.redo.rules.page cimport check_pointers, item_id, max_offset
from walstream.rmgr.heap.layout cimport (
    HEAP_COMBOCID, HEAP_HINT_BITS, HEAP_XACT_MASK, HEAP_XMAX_COMMITTED, HEAP_XMAX_INVALID,
    HEAP_XMIN_FROZEN, SizeofHeapTupleHeader, SpecTokenOffsetNumber, t_cid, t_ctid, t_ctid_offset,
    t_infomask)
from walstream.wal.buffer cimport fill, put16, put32, u16, uint32, writable_of
from walstream.wal.bufpage cimport (
    BLCKSZ, lp_flags, lp_len, LP_NORMAL, lp_off, maxalign, put_block, SizeOfPageHeaderData)

@cython.locals(p=cython.p_uchar, i=int, count=int, lp=uint32, at=uint32, length=uint32,
               infomask=uint32)
cpdef int mask(bytearray page, uint32 block, bint strict) except -1
