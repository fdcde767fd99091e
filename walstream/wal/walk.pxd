cimport cython
from walstream.wal.buffer cimport (
    byte, move, release, resize, u8, u16, u32, u64, uint32, uint64)
from walstream.wal.crc cimport crc32c_of, prepare_crc, record_crc
from walstream.wal.formats cimport FORMATS, magic_of, row_of, version_of
from walstream.wal.layout cimport (
    MAXIMUM_ALIGNOF, RM_MAX_BUILTIN_ID, RM_MIN_CUSTOM_ID, RM_XLOG_ID, SizeOfXLogLongPHD,
    SizeOfXLogRecord, SizeOfXLogShortPHD, xl_crc, xl_info, xl_prev, xl_rmid, xl_tot_len,
    XLOG_BLCKSZ, XLP_ALL_FLAGS, XLP_FIRST_IS_CONTRECORD, XLP_FIRST_IS_OVERWRITE_CONTRECORD,
    xlp_info, XLP_LONG_HEADER, xlp_magic, xlp_pageaddr, xlp_rem_len, xlp_seg_size, xlp_sysid,
    xlp_tli, xlp_xlog_blcksz, XLR_BLOCK_ID_DATA_SHORT, XLR_RMGR_INFO_MASK)
from walstream.wal.opcodes cimport XLOG_OVERWRITE_CONTRECORD, XLOG_SWITCH

cdef int MORE, RECORD, END_OF_WAL, DAMAGE
cdef int FINDING, READING, SKIPPING, ENDED, FAILED
cdef int INVALID_MAGIC, INVALID_INFO, NO_LONG_HEADER, OTHER_SYSTEM, OTHER_SEGMENT_SIZE
cdef int OTHER_BLOCK_SIZE, UNEXPECTED_PAGEADDR, OUT_OF_SEQUENCE_TIMELINE, UNEXPECTED_CONTRECORD
cdef int NO_CONTRECORD, INVALID_CONTRECORD_LENGTH, ZERO_LENGTH, INVALID_LENGTH, TOO_LONG
cdef int INVALID_RMGR, INCORRECT_PREV, INCORRECT_CHECKSUM, NO_OVERWRITE_CONTRECORD
cdef int OTHER_OVERWRITTEN, NO_MEMORY
cdef int NEWEST
cdef Py_ssize_t KEPT_TO_VERIFY

@cython.final
cdef class Walker:
    # what is expected of the WAL
    cdef readonly int version
    cdef uint64 max_length
    cdef bint custom_rmgrs
    cdef readonly uint64 segment_size
    cdef readonly uint64 system_identifier
    cdef public uint32 first_timeline
    cdef public uint32 last_timeline
    cdef readonly uint32 timeline
    cdef public bint collect
    # where it is
    cdef int state
    cdef readonly uint64 lsn
    cdef public Py_ssize_t at
    cdef uint64 skip_to
    cdef bint tolerant
    cdef readonly uint64 prev
    cdef public uint64 verified_end
    cdef readonly uint64 aborted
    # the page header under way, then the last one
    cdef byte header[SizeOfXLogLongPHD]
    cdef int header_have
    cdef readonly uint64 page_lsn
    cdef uint32 page_info
    cdef uint32 rem_len
    # the record under way
    cdef uint64 record_lsn
    cdef readonly uint64 total
    cdef uint64 have
    cdef uint32 crc
    cdef byte* kept
    cdef Py_ssize_t kept_size
    # the last whole record
    cdef const byte* record_p
    cdef Py_ssize_t record_at
    cdef readonly bint cut
    cdef readonly uint64 start_lsn
    cdef readonly uint64 end_lsn
    # the damage
    cdef readonly int reason
    cdef readonly uint64 error_lsn
    cdef readonly uint64 expected
    cdef readonly uint64 got

    @cython.locals(row=int)
    cdef void use_version(self, int version) noexcept nogil
    cdef int fail(self, int reason, uint64 lsn, uint64 expected, uint64 got) noexcept nogil
    cdef void jump(self, uint64 lsn, bint find_record) noexcept nogil

    @cython.locals(page_at=uint64, room=Py_ssize_t, at=Py_ssize_t, total=uint64, crc=uint32,
                   step=Py_ssize_t, left=uint64, code=int)
    cdef int advance(self, const byte* p, Py_ssize_t end) noexcept nogil

    @cython.locals(at=Py_ssize_t, have=uint64, total=uint64, code=int, step=Py_ssize_t)
    cdef int take_header(self, const byte* p, Py_ssize_t room) noexcept nogil

    @cython.locals(n=Py_ssize_t, size=Py_ssize_t, grown=cython.p_uchar, limit=Py_ssize_t)
    cdef int keep(self, const byte* p, Py_ssize_t at, Py_ssize_t length) noexcept nogil

    cdef int short_length(self, uint64 lsn, uint64 total) noexcept nogil

    @cython.locals(rmgr=uint32, prev=uint64)
    cdef int check_header(self, const byte* p, Py_ssize_t at, uint64 lsn,
                          uint64 total) noexcept nogil

    @cython.locals(end=uint64)
    cdef int finish(self, const byte* p, Py_ssize_t at, uint32 crc, bint cut) noexcept nogil

    @cython.locals(rmgr=uint32, overwritten=uint64, body=Py_ssize_t)
    cdef int check_overwrite(self, const byte* p, Py_ssize_t at) noexcept nogil

    @cython.locals(need=int, step=Py_ssize_t, code=int, long_header=bint)
    cdef int take_page_header(self, const byte* p, Py_ssize_t end) noexcept nogil

    @cython.locals(magic=uint32, info=uint32, version=int, value=uint64, timeline=uint32)
    cdef int check_page_header(self, const byte* p, int size) noexcept nogil

    @cython.locals(version=int)
    cdef int known_magic(self) noexcept nogil

    @cython.locals(code=int)
    cdef int enter_page(self) noexcept nogil

    @cython.locals(size=uint64, left=uint64)
    cdef void find_on_page(self) noexcept nogil

    cdef int resume(self) noexcept nogil
