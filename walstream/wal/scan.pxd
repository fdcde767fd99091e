cimport cython
from walstream.wal.buffer cimport (
    byte, bytes_of, move, release, resize, uint16, uint32, uint64)
from walstream.wal.columns cimport (
    IMAGE_APPLY, IMAGE_COMPRESSION_SHIFT, IMAGE_HOLE, IMAGE_PRESENT)
from walstream.wal.crc cimport prepare_crc
from walstream.wal.filter cimport RecordFilter
from walstream.wal.input cimport WalInput
from walstream.wal.layout cimport (
    BKPBLOCK_HAS_IMAGE, BKPIMAGE_HAS_HOLE, MAX_XLINFO_TYPES, RM_XACT_ID, XLR_MAX_BLOCK_ID)
from walstream.wal.match cimport RecordMatch
from walstream.wal.opcodes cimport XLOG_XACT_OPMASK
from walstream.wal.record cimport RecordReader
from walstream.wal.totals cimport RecordTotals
from walstream.wal.walk cimport DAMAGE, END_OF_WAL, MORE, RECORD, Walker

ctypedef long long int64

cdef int FULL, BAD_BLOCKS, NO_MEMORY, PAST_LIMIT
cdef uint64 ALL_ONES

@cython.final
cdef class WalScanner(WalInput):
    cdef RecordReader reader
    cdef bint keep_records
    cdef uint32 capacity
    cdef uint32 block_capacity
    cdef uint32 n
    cdef uint32 m
    cdef byte* side
    cdef Py_ssize_t side_size
    cdef Py_ssize_t side_have
    cdef bint past_limit
    cdef list arrays
    cdef bint detached
    cdef RecordFilter chosen

    cdef uint64[::1] start_lsn
    cdef uint64[::1] end_lsn
    cdef uint64[::1] prev_lsn
    cdef uint32[::1] total_length
    cdef uint32[::1] xid
    cdef byte[::1] rmgr
    cdef byte[::1] info
    cdef uint32[::1] fpi_length
    cdef uint32[::1] block_begin
    cdef byte[::1] blocks
    cdef int64[::1] record_at
    cdef int64[::1] main_at
    cdef uint32[::1] main_length

    cdef uint32[::1] block_record
    cdef byte[::1] block_id
    cdef uint32[::1] spc
    cdef uint32[::1] db
    cdef uint32[::1] rel
    cdef byte[::1] fork
    cdef uint32[::1] block
    cdef byte[::1] flags
    cdef uint16[::1] data_length
    cdef uint16[::1] image_length
    cdef uint16[::1] hole_offset
    cdef uint16[::1] hole_length
    cdef byte[::1] image

    @cython.locals(code=int)
    cdef int fill(self, Walker walker, RecordReader reader, RecordFilter chosen,
                  RecordMatch match, const byte* p, Py_ssize_t end) noexcept nogil

    cdef bint is_full(self) noexcept nogil

    @cython.locals(code=int)
    cdef int step(self, Walker walker, RecordReader reader, RecordFilter chosen,
                  RecordMatch match, const byte* p, Py_ssize_t end) noexcept nogil

    @cython.locals(n=uint32, m=uint32, i=int, fpi=uint32, image=uint32, blocks=int, at=Py_ssize_t)
    cdef int add_row(self, Walker walker, RecordReader reader) noexcept nogil

    cpdef bint next_record(self) except? -1

    @cython.locals(code=int, walker=Walker, reader=RecordReader, chosen=RecordFilter, match=RecordMatch)
    cdef bint go_on(self, const byte* p, bint far) except? -1

    @cython.locals(size=Py_ssize_t, grown=cython.p_uchar, at=Py_ssize_t)
    cdef Py_ssize_t put_aside(self, const byte* p, Py_ssize_t at, Py_ssize_t length) noexcept nogil

    @cython.locals(code=int, i=int, fpi=uint32, op=uint32, place=Py_ssize_t)
    cdef int sum_up(self, Walker walker, RecordReader reader, RecordFilter chosen,
                    RecordMatch match, const byte* p, Py_ssize_t end, RecordTotals totals) noexcept nogil

    @cython.locals(code=int, walker=Walker, reader=RecordReader, chosen=RecordFilter, match=RecordMatch)
    cpdef bint add_totals(self, RecordTotals totals) except? -1

    @cython.locals(start_lsn=uint64)
    cdef int note(self, int code) except -1

    @cython.locals(code=int, walker=Walker, reader=RecordReader, chosen=RecordFilter, match=RecordMatch)
    cpdef object poll_columns(self)
