cimport cython
from walstream.rmgr.program cimport Describer
from walstream.rmgr.text cimport Text
from walstream.wal.buffer cimport byte, bytes_of, uint64
from walstream.wal.layout cimport BKPBLOCK_HAS_IMAGE
from walstream.wal.record cimport RecordReader
from walstream.wal.scan cimport WalScanner
from walstream.wal.walk cimport Walker

ctypedef const byte* const_p

cdef int _RMGRS, _PLACES, MOST
cdef Py_ssize_t FULL
cdef uint64 FAR

cdef class RecordWriter:
    cdef readonly int version
    cdef readonly Text text
    cdef RecordReader reader
    cdef Describer describer
    cdef object end_array
    cdef long long[::1] ends
    cdef int[::1] places
    cdef bytes pool
    cdef const byte* literals

    @cython.final
    cdef void attach(self, const byte[::1] view)
    @cython.final
    @cython.locals(place=Py_ssize_t)
    cdef int meet(self, int rmgr_id) except -1
    @cython.final
    @cython.locals(place=Py_ssize_t)
    cdef int put_manager(self, Text out) except -1
    @cython.final
    @cython.locals(place=Py_ssize_t)
    cdef int put_operation(self, Text out) except -1
    @cython.locals(walker=Walker, out=Text, p=const_p, count=int, far=bint, end_lsn=uint64)
    cpdef int write_from(self, WalScanner scanner, bint rows) except -1
    cdef int write(self, const byte* p, Py_ssize_t at, uint64 start_lsn, uint64 end_lsn) except -1
    @cython.final
    @cython.locals(mark=Py_ssize_t)
    cdef int describe(self, const byte* p, Py_ssize_t at, Text out) except -1
    @cython.final
    @cython.locals(reader=RecordReader, size=uint64, i=int)
    cdef uint64 image_bytes(self) noexcept
