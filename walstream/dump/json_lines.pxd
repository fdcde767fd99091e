cimport cython
from walstream.rmgr.program cimport Describer
from walstream.rmgr.text cimport Text
from walstream.wal.buffer cimport byte, uint32, uint64
from walstream.wal.layout cimport (
    BKPBLOCK_HAS_IMAGE, BKPBLOCK_WILL_INIT, COMPRESSION_LZ4, COMPRESSION_NONE, COMPRESSION_PGLZ,
    FSM_FORKNUM, INIT_FORKNUM, MAIN_FORKNUM, MAX_XLINFO_TYPES, VISIBILITYMAP_FORKNUM)
from walstream.wal.record cimport RecordReader

@cython.final
cdef class ObjectWriter:
    cdef readonly int version
    cdef readonly Text text
    cdef RecordReader reader
    cdef Describer describer
    cdef Describer fields
    cdef int[::1] places
    cdef bytes pool
    cdef const byte* literals

    cdef void attach(self, const byte[::1] view)
    @cython.locals(place=Py_ssize_t)
    cdef int meet(self, int rmgr_id) except -1
    @cython.locals(i=Py_ssize_t, row=Py_ssize_t, at=cython.longlong, length=Py_ssize_t,
                   start=uint64, end=uint64)
    cpdef write_rows(self, unsigned int[::1] rows, unsigned long long[::1] start_lsn,
                     unsigned long long[::1] end_lsn, long long[::1] record_at,
                     unsigned int[::1] total_length, const byte[::1] piece, const byte[::1] side)
    @cython.locals(reader=RecordReader, out=Text, fpi=uint64, i=int, place=Py_ssize_t)
    cdef int write(self, const byte* p, Py_ssize_t at, Py_ssize_t length, uint64 start_lsn,
                   uint64 end_lsn) except -1
    @cython.locals(mark=Py_ssize_t)
    cdef int put_description(self, const byte* p, Py_ssize_t at, Text out) except -1
    @cython.locals(mark=Py_ssize_t)
    cdef int put_fields(self, const byte* p, Py_ssize_t at, Text out) except -1
    @cython.locals(reader=RecordReader, fork=uint32)
    cdef int put_block(self, int i, Text out) except -1
    @cython.locals(reader=RecordReader, compression=uint32)
    cdef int put_image(self, int i, Text out) except -1
