cimport cython
from walstream.wal.buffer cimport uint32, uint64

@cython.final
cdef class Formats:
    cdef int count
    cdef int major[16]
    cdef uint32 page_magic[16]
    cdef uint64 max_record_length[16]
    cdef bint custom_rmgrs[16]
    cdef uint32 image_apply[16]
    cdef uint32 image_pglz[16]
    cdef uint32 image_lz4[16]
    cdef uint32 image_zstd[16]

cdef Formats FORMATS

@cython.locals(i=int)
cdef int row_of(int version) noexcept nogil

@cython.locals(i=int)
cdef uint32 magic_of(int version) noexcept nogil

@cython.locals(i=int)
cdef int version_of(uint32 magic) noexcept nogil
