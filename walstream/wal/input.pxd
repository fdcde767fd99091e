cimport cython
from walstream.wal.buffer cimport bytes_of, uint64
from walstream.wal.layout cimport SizeOfXLogRecord
from walstream.wal.walk cimport Walker

cdef class WalInput:
    cdef Walker walker
    cdef object pending
    cdef object piece
    cdef Py_ssize_t end
    cdef readonly uint64 feed_lsn
    cdef readonly object lost
    cdef readonly object end_of_wal
    cdef object damage
    cdef object lost_from

    cdef bint next_piece(self) except? -1
    cdef void drop_piece(self)
    @cython.locals(walker=Walker)
    cdef object damaged(self)
    cdef void ended(self)
    cdef void found(self, uint64 start_lsn)
