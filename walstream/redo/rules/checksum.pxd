cimport cython
from walstream.wal.buffer cimport byte, bytes_of, put8, put16, u16, u32, uint32, writable_of
from walstream.wal.bufpage cimport BLCKSZ, PG_UINT32_MAX, pd_checksum_at, pd_flags_at, pd_upper_at


@cython.final
cdef class Lanes:
    cdef uint32 start[32]
    cdef uint32 sums[32]

cdef Lanes LANES

@cython.locals(lanes=Lanes, p="const byte*", q="byte*", count=Py_ssize_t, found=Py_ssize_t, i=Py_ssize_t,
               at=Py_ssize_t, right=bint)
cpdef Py_ssize_t prove_pages(object pages, uint32 first_block, object proven) except -1

@cython.locals(lanes=Lanes, p="byte*", q="const byte*", count=Py_ssize_t, i=Py_ssize_t, at=Py_ssize_t)
cpdef Py_ssize_t stamp_pages(object pages, object blocks) except -1

@cython.locals(i=int, j=int, mixed=uint32, result=uint32)
cdef uint32 checksum_of(Lanes lanes, const byte* page, Py_ssize_t at, uint32 block) noexcept nogil
