cimport cython
from walstream.wal.buffer cimport (
    byte, cut, put8, put_be32, put_be64, release, resize, u8, u32, u64, uint32, uint64
)

from walstream.index.keys cimport (
    put_block, put_end, put_entry, put_event, put_event_key, put_growth, put_xid
)

from walstream.rmgr.heap.effects cimport cleared_bits
from walstream.rmgr.heap.layout cimport HEAPBLOCKS_PER_PAGE, OLD_BLOCK_SHIFT
from walstream.wal.layout cimport (
    BKPBLOCK_WILL_INIT, MAIN_FORKNUM, RM_DBASE_ID, RM_HEAP2_ID, RM_HEAP_ID, RM_MIN_CUSTOM_ID,
    RM_SMGR_ID, RM_TBLSPC_ID, RM_XACT_ID, RM_XLOG_ID, VISIBILITYMAP_FORKNUM, XLR_RMGR_INFO_MASK
)
from walstream.wal.opcodes cimport (
    VISIBILITYMAP_VALID_BITS, XLOG_FPI, XLOG_FPI_FOR_HINT, XLOG_PARAMETER_CHANGE,
    XLOG_RESTORE_POINT, XLOG_XACT_ABORT, XLOG_XACT_ABORT_PREPARED, XLOG_XACT_COMMIT,
    XLOG_XACT_COMMIT_PREPARED, XLOG_XACT_HAS_INFO, XLOG_XACT_OPMASK
)

ctypedef long long int64

cdef int INIT, IMPLICIT, IMAGE_APPLY, MARK_SHIFT
cdef uint32 MAX_BLOCKS, FIRST_NORMAL_XID
cdef uint32 HAS_DBINFO, HAS_SUBXACTS, HAS_RELFILELOCATORS, HAS_TWOPHASE
cdef Py_ssize_t MAX_FORKS

cdef bint ends_transaction(uint32 info) noexcept

@cython.final
cdef class Posting:
    cdef byte* p
    cdef Py_ssize_t have
    cdef Py_ssize_t size
    cdef uint64 base
    cdef uint64 last

    @cython.locals(size=Py_ssize_t, grown=cython.p_uchar)
    cdef int room(self, Py_ssize_t length) noexcept

    @cython.locals(at=Py_ssize_t)
    cdef int append(self, uint64 end_lsn, uint64 start_lsn, uint32 flags) noexcept

    @cython.locals(step=uint32)
    cdef int append_xid(self, uint64 end_lsn, uint32 xid) noexcept

@cython.final
cdef class Fork:
    cdef uint32 spc
    cdef uint32 db
    cdef uint32 rel
    cdef uint32 fork
    cdef int64 blocks

@cython.final
cdef class PostingLists:
    cdef readonly uint64 last_end
    cdef readonly uint64 last_start
    cdef readonly uint32 newest_xid
    cdef readonly uint64 newest_time
    cdef list marks
    cdef dict postings
    cdef list pairs
    cdef dict forks
    cdef list recent
    cdef Posting growth
    cdef Posting ends
    cdef uint32 end_xid
    cdef uint64 end_time
    cdef dict groups
    cdef Posting group
    cdef uint32 group_number
    cdef byte key[32]
    cdef byte value[16]
    cdef byte changes_pages[256]

    cdef Py_ssize_t count
    cdef Py_ssize_t block_count
    cdef const uint64[::1] start_lsn
    cdef const uint64[::1] end_lsn
    cdef const uint32[::1] xid
    cdef const byte[::1] rmgr
    cdef const byte[::1] info
    cdef const uint32[::1] block_begin
    cdef const byte[::1] blocks
    cdef const int64[::1] main_at
    cdef const uint32[::1] main_length
    cdef const uint32[::1] spc
    cdef const uint32[::1] db
    cdef const uint32[::1] rel
    cdef const byte[::1] fork
    cdef const uint32[::1] block
    cdef const byte[::1] flags
    cdef const byte[::1] image
    cdef const byte[::1] piece
    cdef const byte[::1] side
    cdef Py_ssize_t piece_length
    cdef Py_ssize_t side_length

    cdef begin(self)

    @cython.locals(posting=Posting, pairs=list, prefix=bytes, number=uint32)
    cpdef list take(self)

    cpdef tuple take_ends(self)
    cpdef bytes take_growth(self)

    @cython.locals(marks=list)
    cpdef list take_marks(self)

    cpdef go_on_at(self, uint64 last_end, uint64 last_start)

    cdef bytes block_key(self, uint32 spc, uint32 db, uint32 rel, uint32 fork, uint32 block)

    @cython.locals(key=bytes, posting=Posting)
    cpdef int add_entry(self, uint32 spc, uint32 db, uint32 rel, uint32 fork, uint32 block,
                        uint64 end_lsn, uint64 start_lsn, uint32 flags) except -1

    @cython.locals(posting=Posting)
    cpdef uint64 newest(self, uint32 spc, uint32 db, uint32 rel, uint32 fork,
                        uint32 block) except? 0

    cdef bytes fork_key(self, uint32 spc, uint32 db, uint32 rel, uint32 fork)

    @cython.locals(slot=Py_ssize_t, found=Fork, key=bytes)
    cdef Fork find_fork(self, uint32 spc, uint32 db, uint32 rel, uint32 fork)

    cpdef forget_fork(self, uint32 spc, uint32 db, uint32 rel, uint32 fork)
    cpdef forget_forks(self)

    @cython.locals(blocks=uint32, growth=Posting)
    cdef int grow(self, Fork fork, uint64 end_lsn, uint32 block) except -1

    @cython.locals(ends=Posting)
    cpdef int add_end(self, uint64 end_lsn, uint64 start_lsn, uint32 xid, uint64 time_us,
                      uint32 info) except -1

    @cython.locals(number=uint32, group=Posting)
    cpdef int add_xid(self, uint64 end_lsn, uint32 xid) except -1

    @cython.locals(key_length=Py_ssize_t, length=Py_ssize_t)
    cpdef int add_event(self, uint64 end_lsn, uint64 start_lsn, uint32 rmgr, uint32 info,
                        uint32 xid) except -1

    @cython.locals(ahead=uint32)
    cdef int pass_record(self, uint64 end_lsn, uint64 start_lsn, uint32 xid) except -1

    cpdef load(self, object columns, const byte[::1] piece)
    cpdef Py_ssize_t collect(self, Py_ssize_t row) except -1

    @cython.locals(rmgr=uint32, op=uint32)
    cdef bint is_plain(self, Py_ssize_t row) noexcept

    @cython.locals(at=int64, length=int64, xinfo=uint32, skipped=int64)
    cdef bint is_plain_end(self, Py_ssize_t row) noexcept

    @cython.locals(at=int64, length=int64)
    cdef Py_ssize_t main_place(self, Py_ssize_t row) noexcept

    cdef uint32 main_byte(self, Py_ssize_t row, Py_ssize_t at) noexcept
    cdef uint32 main_number(self, Py_ssize_t row, Py_ssize_t at) noexcept

    @cython.locals(value=uint64)
    cdef uint64 main_time(self, Py_ssize_t row, Py_ssize_t at) noexcept

    @cython.locals(at=Py_ssize_t, length=uint32)
    cdef int clears_bits(self, Py_ssize_t row) noexcept

    @cython.locals(first=Py_ssize_t, count=Py_ssize_t, low=Py_ssize_t, high=Py_ssize_t)
    cdef int add_clears(self, Py_ssize_t row, int clears, uint64 end_lsn,
                        uint64 start_lsn) except -1

    @cython.locals(spc=uint32, db=uint32, rel=uint32, page=uint32)
    cdef int add_clear(self, Py_ssize_t i, uint64 end_lsn, uint64 start_lsn) except -1

    @cython.locals(start_lsn=uint64, end_lsn=uint64, rmgr=uint32, first=Py_ssize_t, i=Py_ssize_t,
                   spc=uint32, db=uint32, rel=uint32, block=uint32, flags=uint32, clears=int,
                   fork=Fork)
    cpdef int add_blocks(self, Py_ssize_t row) except -1

    @cython.locals(rmgr=uint32, info=uint32, op=uint32)
    cdef int add_row(self, Py_ssize_t row) except -1

    @cython.locals(end_lsn=uint64, info=uint32, at=Py_ssize_t, time_us=uint64, xinfo=uint32,
                   i=uint32)
    cdef int add_plain_end(self, Py_ssize_t row) except -1
