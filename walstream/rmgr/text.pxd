cimport cython
from walstream.wal.buffer cimport byte, move, uint64, writable_of

ctypedef const byte* bytes_p

@cython.final
cdef class Text:
    cdef readonly bytearray store
    cdef byte* p
    cdef readonly Py_ssize_t used
    cdef Py_ssize_t room

    cpdef clear(self)
    cpdef cut(self, Py_ssize_t used)
    @cython.locals(i=Py_ssize_t, value=int)
    cdef bint is_plain(self, Py_ssize_t at) noexcept
    cpdef bytes value(self)
    @cython.locals(raw=bytes_p)
    cpdef put_bytes(self, bytes data)
    cdef int need(self, Py_ssize_t count) except -1
    cdef int put(self, const byte* p, Py_ssize_t at, Py_ssize_t length) except -1
    cdef int put_byte(self, int value) except -1
    @cython.locals(rest=uint64, count=int, at=Py_ssize_t)
    cdef int put_unsigned(self, uint64 value, int width) except -1
    cdef int put_signed(self, long long value) except -1
    @cython.locals(at=Py_ssize_t)
    cdef int put_padded(self, uint64 value, int width) except -1
    @cython.locals(rest=uint64, count=int, at=Py_ssize_t, digit=int)
    cdef int put_hex(self, uint64 value, int width) except -1
    cdef int put_lsn(self, uint64 lsn, int width) except -1
