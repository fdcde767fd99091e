cimport cython
from walstream.wal.buffer cimport byte, move, u8, u16, u32, u64, uint32, uint64
from walstream.wal.record cimport RecordReader

@cython.final
cdef class Text:
    cdef readonly bytearray store
    cdef byte* p
    cdef readonly Py_ssize_t used
    cdef Py_ssize_t room

    cdef void attach(self, byte[::1] view)
    cpdef clear(self)
    cpdef cut(self, Py_ssize_t used)
    cpdef bytes value(self)
    @cython.locals(length=Py_ssize_t)
    cpdef put_bytes(self, bytes data)
    cdef int put_view(self, const byte[::1] data) except -1
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

@cython.final
cdef class Describer:
    cdef readonly int version
    cdef list calls
    cdef long long second
    cdef bytes second_data
    cdef bytes zone_data
    cdef int[::1] code
    cdef int[::1] start
    cdef bytes pool
    cdef const byte* literals

    cdef void attach(self, const byte[::1] view)
    @cython.locals(reader=RecordReader, out=Text)
    cpdef bytes describe_bytes(self, const byte[::1] data)
    @cython.locals(rmgr=uint32, pc=Py_ssize_t, main=Py_ssize_t, end=Py_ssize_t, what=int,
                   place=Py_ssize_t, a=int, b=int, count=cython.longlong)
    cdef int describe(self, RecordReader reader, const byte* p, Py_ssize_t at, Text out) except -1
    cdef uint64 number(self, const byte* p, Py_ssize_t at, int size) noexcept nogil
    @cython.locals(value=cython.longlong)
    cdef long long integer(self, const byte* p, Py_ssize_t at, int size) noexcept nogil
    cdef bint has_data(self, RecordReader reader) noexcept nogil
    @cython.locals(some=bint, i=int)
    cdef int put_bits(self, uint32 value, Py_ssize_t pc, int count, int commas, Text out) except -1
    @cython.locals(i=cython.longlong)
    cdef int put_array(self, const byte* p, Py_ssize_t at, int size, long long count, Text out) except -1
    @cython.locals(seconds=cython.longlong, rest=cython.longlong)
    cdef int put_time(self, long long time_us, Text out) except -1
    cdef int put_double(self, const byte* p, Py_ssize_t at, Text out) except -1
    cdef int call(self, RecordReader reader, const byte* p, Py_ssize_t at, int index, Text out) except -1
