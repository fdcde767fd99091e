cimport cython
from walstream.rmgr.heap.layout cimport MaxHeapTuplesPerPage
from walstream.wal.buffer cimport byte, fill, move, put16, put32, u16, u32, uint32
from walstream.wal.bufpage cimport (
    BLCKSZ, item_id_at, line_pointer, lp_flags, lp_in_use, lp_len, LP_NORMAL, lp_off, LP_UNUSED,
    maxalign, PAI_IS_HEAP, PAI_OVERWRITE, pd_flags, PD_HAS_FREE_LINES, pd_lower,
    pd_pagesize_version_at, pd_special, pd_upper, PG_PAGE_LAYOUT_VERSION, set_pd_flags,
    set_pd_lower, set_pd_special, set_pd_upper, SizeOfItemIdData, SizeOfPageHeaderData)

@cython.final
cdef class Workspace:
    cdef byte copy[8192]
    cdef int index[2048]
    cdef int offset[2048]
    cdef int length[2048]
    cdef uint32 kept[2048]

cdef Workspace WORK

cdef int check_pointers(const byte* page) except -1
cdef int check_aligned(const byte* page) except -1
cdef int expect_special(const byte* page, uint32 size) except -1

@cython.locals(lower=uint32)
cdef int max_offset(const byte* page) noexcept

@cython.locals(at=Py_ssize_t)
cdef uint32 item_id(const byte* page, uint32 offset) noexcept

cdef int set_item_id(byte* page, uint32 offset, uint32 at, uint32 flags, uint32 length) noexcept

@cython.locals(lp=uint32, at=uint32, length=uint32)
cdef int item_at(const byte* page, uint32 offset) except -1

cdef int item_length(const byte* page, uint32 offset) noexcept

cdef int page_init(byte* page, uint32 special_size) noexcept

@cython.locals(limit=uint32, lower=uint32, upper=uint32, aligned=uint32, shuffle=bint, at=Py_ssize_t)
cdef int add_item(byte* page, const byte* source, Py_ssize_t source_at, uint32 size,
                  uint32 offset, int flags) except -1

@cython.locals(special=int, upper=int, i=int, at=int, length=int, group_end=int, start=int)
cdef int compactify(byte* page, int count, bint presorted) except -1

@cython.locals(lower=int, upper=int, special=int, count=int, used=int, unused=int, total=int, i=int,
               final_used=int, last=int, presorted=bint, lp=uint32, at=int, length=int)
cdef int repair_fragmentation(byte* page, bint truncate) except -1

@cython.locals(lower=int, i=int, unused_end=int, done=bint, hint=bint)
cdef int truncate_line_pointers(byte* page) except -1

cdef int set_free_lines(byte* page, bint free) noexcept

@cython.locals(count=int, lp=uint32, at=uint32, length=uint32)
cdef Py_ssize_t index_item(const byte* page, uint32 offset) except -1

@cython.locals(upper=int)
cdef int shift_tuples(byte* page, int at, int by) noexcept

@cython.locals(i=int, lp=uint32, start=int)
cdef int shift_lines(byte* page, int count, int at, int by) noexcept

@cython.locals(count=int, i=int, lp=uint32, at=uint32, length=uint32)
cdef int index_tuple_delete(byte* page, uint32 offset) except -1

@cython.locals(lower=int, upper=int, special=int, lines=int, used=int, total=int, taken=int, i=int,
               last=int, presorted=bint, lp=uint32, at=int, length=int)
cdef int index_multi_delete(byte* page, const byte* numbers, Py_ssize_t numbers_at, int count) except -1

@cython.locals(count=int, lp=uint32, at=int, length=int)
cdef int index_delete_no_compact(byte* page, uint32 offset) except -1

@cython.locals(lp=uint32, at=int, upper=int, lower=int, old=int, new=int, difference=int)
cdef int index_tuple_overwrite(byte* page, uint32 offset, const byte* source, Py_ssize_t source_at,
                               uint32 size) except -1

@cython.locals(lp=uint32)
cdef int set_lp_offset(byte* page, int offset, int at) noexcept
