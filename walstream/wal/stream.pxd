cimport cython
from walstream.wal.buffer cimport byte, bytes_of, uint64
from walstream.wal.input cimport WalInput
from walstream.wal.walk cimport DAMAGE, END_OF_WAL, MORE, RECORD, Walker

cdef int PIECES, WORTH_UNLOCKING

@cython.final
cdef class WalStreamDecoder(WalInput):
    cdef const byte* starts[128]
    cdef Py_ssize_t lengths[128]
    cdef int walked
    @cython.locals(code=int, walker=Walker, at=Py_ssize_t)
    cpdef object poll_decode(self)
    @cython.locals(code=int)
    cpdef object verify_bytes(self, uint64 lsn, object pieces)
    @cython.locals(code=int, count=int, size=Py_ssize_t, length=Py_ssize_t, at=Py_ssize_t)
    cdef int walk_pieces(self) except -1
    @cython.locals(i=int, code=int)
    cdef int walk(self, int count) noexcept nogil
    @cython.locals(code=int)
    cdef int advance(self) except -1
