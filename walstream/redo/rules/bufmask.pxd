cimport cython
from walstream.redo.rules.page cimport check_pointers, item_id, max_offset
from walstream.wal.buffer cimport fill, put32, uint32, writable_of
from walstream.wal.bufpage cimport (
    BLCKSZ, InvalidTransactionId, item_id_at, line_pointer, lp_len, lp_off, LP_UNUSED,
    PD_ALL_VISIBLE, pd_flags, pd_flags_at, PD_HAS_FREE_LINES, pd_lower, PD_PAGE_FULL, pd_special,
    pd_upper, set_pd_flags, set_pd_lower, set_pd_prune_xid, set_pd_upper, SizeOfPageHeaderData)

cpdef int mask_page_lsn_and_checksum(bytearray page) except -1

@cython.locals(p=cython.p_uchar)
cpdef int mask_page_hint_bits(bytearray page) except -1

@cython.locals(p=cython.p_uchar)
cpdef int mask_unused_space(bytearray page) except -1

@cython.locals(p=cython.p_uchar)
cpdef int mask_page_content(bytearray page) except -1

@cython.locals(p=cython.p_uchar, i=int, lp=uint32)
cpdef int mask_lp_flags(bytearray page) except -1

@cython.locals(p=cython.p_uchar)
cpdef int special_area(bytearray page, uint32 size) except -1
