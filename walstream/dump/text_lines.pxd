cimport cython
from walstream.dump.lines cimport RecordWriter
from walstream.rmgr.text cimport Text
from walstream.wal.buffer cimport byte, uint32, uint64
from walstream.wal.bufpage cimport BLCKSZ
from walstream.wal.layout cimport (
    BKPBLOCK_HAS_IMAGE, COMPRESSION_LZ4, COMPRESSION_NONE, COMPRESSION_PGLZ, FSM_FORKNUM,
    INIT_FORKNUM, MAIN_FORKNUM, VISIBILITYMAP_FORKNUM)
from walstream.wal.record cimport RecordReader

cdef class LineWriter(RecordWriter):
    cdef readonly bint details

    @cython.locals(reader=RecordReader, out=Text)
    cdef int write(self, const byte* p, Py_ssize_t at, uint64 start_lsn, uint64 end_lsn) except -1
    @cython.final
    cdef int put_literal(self, bytes data, Text out) except -1
    @cython.final
    @cython.locals(reader=RecordReader)
    cdef int put_reference(self, int i, Text out) except -1
    @cython.final
    cdef int put_fork(self, uint32 fork, Text out) except -1
    @cython.final
    @cython.locals(reader=RecordReader, i=int)
    cdef int put_blocks(self, Text out) except -1
    @cython.final
    @cython.locals(reader=RecordReader, i=int)
    cdef int put_details(self, Text out) except -1
    @cython.final
    @cython.locals(reader=RecordReader, compression=uint32, saved=uint32)
    cdef int put_image(self, int i, Text out) except -1
