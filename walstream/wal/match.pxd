cimport cython
from walstream.wal.buffer cimport uint32
from walstream.wal.layout cimport BKPBLOCK_HAS_IMAGE
from walstream.wal.record cimport RecordReader

@cython.final
cdef class RecordMatch:
    cdef bint any_rmgr
    cdef bint rmgrs[256]
    cdef bint any_xid
    cdef uint32 xid
    cdef bint any_relation
    cdef uint32 spc
    cdef uint32 db
    cdef uint32 rel
    cdef bint any_block
    cdef uint32 block
    cdef bint any_fork
    cdef uint32 fork
    cdef bint by_block
    cdef bint fullpage
    cdef readonly bint everything

    @cython.locals(i=int, named=bint, image=bint)
    cdef bint fits(self, RecordReader reader) noexcept nogil
