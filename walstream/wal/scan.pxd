cimport cython
from walstream.wal.buffer cimport byte, bytes_of, move, release, resize, u8, u16, u32, u64, uint16, uint32, uint64
from walstream.wal.crc cimport prepare_crc, record_crc
from walstream.wal.input cimport WalInput
from walstream.wal.match cimport RecordMatch
from walstream.wal.record cimport RecordReader
from walstream.wal.walk cimport DAMAGE, END_OF_WAL, MORE, RECORD, SKIPPING, Walker

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
    cdef list arrays
    cdef bint detached
    cdef RecordMatch match
    cdef uint64 from_lsn
    cdef uint64 limit_lsn
    cdef readonly uint64 first_lsn
    cdef readonly uint64 next_lsn
    cdef uint64[::1] no_sums

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
    cdef int fill(self, Walker walker, RecordReader reader, RecordMatch match, const byte* p,
                  Py_ssize_t end) noexcept nogil

    @cython.locals(n=uint32, m=uint32, i=int, fpi=uint32, image=uint32, blocks=int, at=Py_ssize_t)
    cdef int add_record(self, Walker walker, RecordReader reader,
                        RecordMatch match) noexcept nogil

    @cython.locals(size=Py_ssize_t, grown=cython.p_uchar, at=Py_ssize_t)
    cdef Py_ssize_t put_aside(self, const byte* p, Py_ssize_t at, Py_ssize_t length) noexcept nogil

    @cython.locals(lsn=uint64, at=Py_ssize_t, prev=uint64, room=Py_ssize_t, first=uint64,
                   total=uint64, count=uint64, length=uint64, rmgr=uint32, info=uint32, hit=int,
                   op=uint32, place=Py_ssize_t, step=Py_ssize_t)
    cdef void pass_over(self, Walker walker, RecordMatch match, const byte* p, Py_ssize_t end,
                        uint64[::1] totals, uint64 limit_lsn, bint summing) noexcept nogil

    @cython.locals(end=Py_ssize_t, cursor=Py_ssize_t, payload=Py_ssize_t, highest=int,
                   has_rel=bint, hit=int, block_id=int, flags=uint32, data=uint32, fits=bint)
    cdef inline int skim(self, RecordMatch match, const byte* p, Py_ssize_t at,
                         Py_ssize_t length) noexcept nogil

    @cython.locals(code=int, i=int, fpi=uint32, op=uint32, place=Py_ssize_t)
    cdef int sum_up(self, Walker walker, RecordReader reader, RecordMatch match,
                    const byte* p, Py_ssize_t end, uint64[::1] totals, uint64 from_lsn, uint64 limit_lsn) noexcept nogil

    @cython.locals(code=int, walker=Walker, reader=RecordReader, match=RecordMatch, sums=uint64[::1])
    cpdef bint add_totals(self, object totals, uint64 from_lsn, uint64 limit_lsn) except? -1

    @cython.locals(start_lsn=uint64)
    cdef int note(self, int code) except -1

    @cython.locals(code=int, walker=Walker, reader=RecordReader, match=RecordMatch)
    cpdef object poll_columns(self)
