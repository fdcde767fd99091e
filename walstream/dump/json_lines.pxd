cimport cython
from walstream.dump.lines cimport RecordWriter
from walstream.rmgr.program cimport Describer
from walstream.rmgr.text cimport Text
from walstream.wal.buffer cimport byte, uint32, uint64
from walstream.wal.layout cimport (
    BKPBLOCK_HAS_IMAGE, BKPBLOCK_WILL_INIT, COMPRESSION_LZ4, COMPRESSION_NONE, COMPRESSION_PGLZ,
    FSM_FORKNUM, INIT_FORKNUM, MAIN_FORKNUM, VISIBILITYMAP_FORKNUM)
from walstream.wal.record cimport RecordReader

cdef class ObjectWriter(RecordWriter):
    cdef Describer fields

    @cython.locals(reader=RecordReader, out=Text)
    cdef int write(self, const byte* p, Py_ssize_t at, uint64 start_lsn, uint64 end_lsn) except -1
    @cython.final
    @cython.locals(mark=Py_ssize_t)
    cdef int put_description(self, const byte* p, Py_ssize_t at, Text out) except -1
    @cython.final
    @cython.locals(mark=Py_ssize_t)
    cdef int put_fields(self, const byte* p, Py_ssize_t at, Text out) except -1
    @cython.final
    @cython.locals(reader=RecordReader, fork=uint32)
    cdef int put_block(self, int i, Text out) except -1
    @cython.final
    @cython.locals(reader=RecordReader, compression=uint32)
    cdef int put_image(self, int i, Text out) except -1
