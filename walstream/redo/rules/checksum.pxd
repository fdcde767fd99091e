cimport cython
from walstream.wal.buffer cimport byte, bytes_of, u32, uint32
from walstream.wal.bufpage cimport (
    BLCKSZ, pd_checksum_at, pd_flags, pd_flags_at, pd_upper_at, PG_UINT32_MAX)


@cython.final
cdef class Lanes:
    cdef uint32 start[32]
    cdef uint32 sums[32]

cdef Lanes LANES

@cython.locals(lanes=Lanes, i=int, j=int, at=Py_ssize_t, mixed=uint32, result=uint32)
cdef uint32 checksum_of(const byte* page, uint32 block) noexcept
