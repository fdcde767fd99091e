cimport cython
from walstream.wal.buffer cimport byte, uint64
from walstream.wal.walk cimport Walker

@cython.final
cdef class WalStreamDecoder:
    cdef Walker walker
    cdef object pending
    cdef const byte[::1] piece
    cdef Py_ssize_t end
    cdef object damage
    cdef readonly uint64 feed_lsn
    cdef readonly object lost
    cdef readonly object end_of_wal
    cdef object lost_from

    @cython.locals(code=int, walker=Walker, at=Py_ssize_t)
    cpdef object poll_decode(self)
    @cython.locals(code=int)
    cpdef object verify_bytes(self, uint64 lsn, object data)
    cdef int advance(self) except -1
