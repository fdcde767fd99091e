cimport cython
from walstream.wal.buffer cimport byte, u8, u16, u32, u64, uint32, uint64
from walstream.wal.crc cimport prepare_crc, record_crc
from walstream.wal.layout cimport (
    BKPBLOCK_FORK_MASK, BKPBLOCK_HAS_DATA, BKPBLOCK_HAS_IMAGE, BKPBLOCK_SAME_REL,
    MAX_XLINFO_TYPES, MAXIMUM_ALIGNOF,
    RM_MAX_BUILTIN_ID, RM_XACT_ID, RM_XLOG_ID, SizeOfBlockNumber, SizeOfRelFileLocator,
    SizeOfXLogRecord, SizeOfXLogRecordBlockHeader, XLOG_BLCKSZ, XLR_BLOCK_ID_DATA_SHORT,
    XLR_MAX_BLOCK_ID, XLR_RMGR_INFO_MASK, xl_crc, xl_info, xl_prev, xl_rmid, xl_tot_len, xl_xid
)
from walstream.wal.match cimport RecordMatch
from walstream.wal.opcodes cimport XLOG_SWITCH, XLOG_XACT_OPMASK
from walstream.wal.totals cimport RecordTotals
from walstream.wal.walk cimport SKIPPING, Walker

@cython.final
cdef class RecordFilter:
    cdef RecordMatch match
    cdef bint everything
    cdef uint64 from_lsn
    cdef uint64 limit_lsn
    cdef uint64 first_lsn
    cdef uint64 next_lsn

    @cython.locals(limit_lsn=uint64, lsn=uint64, at=Py_ssize_t,
                   prev=uint64, room=Py_ssize_t, first=uint64, total=uint64, count=uint64,
                   length=uint64, rmgr=uint32, info=uint32, hit=int, place=Py_ssize_t,
                   step=Py_ssize_t)
    cdef void pass_over(self, Walker walker, RecordMatch match, const byte* p, Py_ssize_t end,
                        RecordTotals totals) noexcept nogil

    @cython.locals(end=Py_ssize_t, cursor=Py_ssize_t, payload=Py_ssize_t, highest=int,
                   has_rel=bint, hit=int, block_id=int, flags=uint32, data=uint32, fits=bint)
    cdef inline int skim(self, RecordMatch match, const byte* p, Py_ssize_t at,
                         Py_ssize_t length) noexcept nogil
