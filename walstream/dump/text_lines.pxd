cimport cython
from walstream.rmgr.program cimport Describer
from walstream.rmgr.text cimport Text
from walstream.wal.buffer cimport byte, uint32, uint64
from walstream.wal.bufpage cimport BLCKSZ
from walstream.wal.layout cimport (
    BKPBLOCK_HAS_IMAGE, COMPRESSION_LZ4, COMPRESSION_NONE, COMPRESSION_PGLZ, FSM_FORKNUM,
    INIT_FORKNUM, MAIN_FORKNUM, VISIBILITYMAP_FORKNUM)
from walstream.wal.record cimport RecordReader

cdef int _PLACES

@cython.final
cdef class LineWriter:
    cdef readonly int version
    cdef readonly bint details
    cdef readonly Text text
    cdef RecordReader reader
    cdef Describer describer
    cdef int[::1] places
    cdef bytes pool
    cdef const byte* literals

    cdef void attach(self, const byte[::1] view)
    @cython.locals(place=Py_ssize_t)
    cdef int meet(self, int rmgr_id) except -1
    cpdef int write_bytes(self, const byte[::1] data, uint64 start_lsn) except -1
    @cython.locals(i=Py_ssize_t, row=Py_ssize_t, at=cython.longlong)
    cpdef write_rows(self, unsigned int[::1] rows, unsigned long long[::1] start_lsn,
                     long long[::1] record_at, unsigned int[::1] total_length,
                     const byte[::1] piece, const byte[::1] side)
    @cython.locals(i=Py_ssize_t, row=Py_ssize_t, at=cython.longlong, length=Py_ssize_t)
    cpdef describe_rows(self, unsigned int[::1] rows, unsigned long long[::1] start_lsn,
                        long long[::1] record_at, unsigned int[::1] total_length,
                        const byte[::1] piece, const byte[::1] side, int[::1] ends)
    @cython.locals(out=Text, mark=Py_ssize_t)
    cdef int write_description(self, const byte* p, Py_ssize_t at, Py_ssize_t length,
                               uint64 start_lsn) except -1
    @cython.locals(reader=RecordReader, out=Text, fpi=uint64, i=int, place=Py_ssize_t)
    cdef int write(self, const byte* p, Py_ssize_t at, Py_ssize_t length, uint64 start_lsn) except -1
    @cython.locals(mark=Py_ssize_t)
    cdef int describe(self, const byte* p, Py_ssize_t at, Text out) except -1
    cdef int put_literal(self, bytes data, Text out) except -1
    @cython.locals(reader=RecordReader)
    cdef int put_reference(self, int i, Text out) except -1
    cdef int put_fork(self, uint32 fork, Text out) except -1
    @cython.locals(reader=RecordReader, i=int)
    cdef int put_blocks(self, Text out) except -1
    @cython.locals(reader=RecordReader, i=int)
    cdef int put_details(self, Text out) except -1
    @cython.locals(reader=RecordReader, compression=uint32, saved=uint32)
    cdef int put_image(self, int i, Text out) except -1
