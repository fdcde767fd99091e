cimport cython
from walstream.redo.rules.page cimport check_pointers, item_id, max_offset
from walstream.wal.buffer cimport byte, fill, put8, put16, put32, u8, u16, uint32, writable_of

cdef int mask_hole(byte* page) except -1
cdef int mask_hints(byte* page) noexcept
cdef int mask_content(byte* page) noexcept

@cython.locals(i=int, count=int, lp=uint32)
cdef int mask_line_flags(byte* page) noexcept

@cython.locals(i=int, count=int, lp=uint32, at=uint32, length=uint32, infomask=uint32)
cdef int mask_heap(byte* page, uint32 block, bint strict) except -1

cdef int special_area(byte* page, uint32 size) except -1

@cython.locals(special=int, flags=uint32)
cdef int mask_btree(byte* page) except -1

@cython.locals(special=int, flags=uint32, kind=uint32)
cdef int mask_hash(byte* page) except -1

@cython.locals(special=int)
cdef int mask_gin(byte* page) except -1

@cython.locals(special=int, flags=uint32)
cdef int mask_gist(byte* page) except -1

@cython.locals(special=int, kind=uint32)
cdef int mask_brin(byte* page) except -1

cdef int mask_in_place(byte* page, uint32 rmgr, uint32 block, bint strict) except -1
