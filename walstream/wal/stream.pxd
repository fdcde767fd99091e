cimport cython
from walstream.wal.buffer cimport uint64
from walstream.wal.input cimport WalInput
from walstream.wal.walk cimport DAMAGE, END_OF_WAL, MORE, RECORD, Walker

@cython.final
cdef class WalStreamDecoder(WalInput):
    @cython.locals(code=int, walker=Walker, at=Py_ssize_t)
    cpdef object poll_decode(self)
    @cython.locals(code=int)
    cpdef object verify_bytes(self, uint64 lsn, object data)
    @cython.locals(code=int)
    cdef int advance(self) except -1
