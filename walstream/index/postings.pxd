cimport cython
from walstream.wal.buffer cimport (
    byte, cut, put8, put_be32, put_be64, release, resize, u8, u64, uint32, uint64
)

from walstream.index.keys cimport (
    put_block, put_entry, put_event, put_event_key, put_size, put_size_key, put_time, put_time_key
)

from walstream.rmgr.heap.effects cimport cleared_bits
from walstream.rmgr.heap.layout cimport HEAPBLOCKS_PER_PAGE, OLD_BLOCK_SHIFT
from walstream.wal.layout cimport (
    BKPBLOCK_WILL_INIT, MAIN_FORKNUM, RM_DBASE_ID, RM_HEAP2_ID, RM_HEAP_ID, RM_SMGR_ID,
    RM_TBLSPC_ID, RM_XACT_ID, RM_XLOG_ID, VISIBILITYMAP_FORKNUM, XLR_RMGR_INFO_MASK
)
from walstream.wal.opcodes cimport (
    VISIBILITYMAP_VALID_BITS, XLOG_FPI, XLOG_FPI_FOR_HINT, XLOG_RESTORE_POINT, XLOG_XACT_ABORT, XLOG_XACT_ABORT_PREPARED,
    XLOG_XACT_COMMIT, XLOG_XACT_COMMIT_PREPARED, XLOG_XACT_HAS_INFO, XLOG_XACT_OPMASK
)

ctypedef long long int64

cdef int INIT, IMPLICIT, IMAGE_APPLY, EXTEND, COMMIT, ABORT, NO_END
cdef int64 UNKNOWN
cdef uint32 MAX_BLOCKS, HAS_RELFILELOCATORS, HAS_TWOPHASE
cdef Py_ssize_t MAX_FORKS

@cython.locals(op=uint32)
cdef int end_of_transaction(uint32 info) noexcept

@cython.final
cdef class Posting:
    cdef byte* p
    cdef Py_ssize_t have
    cdef Py_ssize_t size
    cdef uint64 base
    cdef uint64 last

    @cython.locals(at=Py_ssize_t, size=Py_ssize_t, grown=cython.p_uchar)
    cdef int append(self, uint64 end_lsn, uint64 start_lsn, uint32 flags) noexcept

@cython.final
cdef class Fork:
    cdef uint32 spc
    cdef uint32 db
    cdef uint32 rel
    cdef uint32 fork
    cdef int64 blocks

@cython.final
cdef class PostingLists:
    cdef dict postings
    cdef list pairs
    cdef dict forks
    cdef Py_ssize_t count_forks
    cdef list absent
    cdef list recent
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

    @cython.locals(posting=Posting, pairs=list, prefix=bytes, fork=Fork)
    cpdef list take(self)

    @cython.locals(of_database=dict)
    cdef forget_fork(self, Fork fork)

    cdef bytes block_key(self, uint32 spc, uint32 db, uint32 rel, uint32 fork, uint32 block)

    @cython.locals(key=bytes, posting=Posting)
    cpdef int add_entry(self, uint32 spc, uint32 db, uint32 rel, uint32 fork, uint32 block,
                        uint64 end_lsn, uint64 start_lsn, uint32 flags) except -1

    @cython.locals(posting=Posting)
    cpdef uint64 newest(self, uint32 spc, uint32 db, uint32 rel, uint32 fork,
                        uint32 block) except? 0

    @cython.locals(slot=Py_ssize_t, found=Fork, key=bytes, of_database=dict)
    cdef Fork find_fork(self, uint32 spc, uint32 db, uint32 rel, uint32 fork)

    cpdef object size(self, uint32 spc, uint32 db, uint32 rel, uint32 fork)
    @cython.locals(found=Fork)
    cpdef set_size(self, uint32 spc, uint32 db, uint32 rel, uint32 fork, int64 blocks)

    @cython.locals(gone=dict)
    cpdef forget_sizes(self, uint32 db)

    cpdef forget_all(self)

    @cython.locals(blocks=uint32, key_length=Py_ssize_t)
    cdef int extend(self, Fork fork, uint64 end_lsn, uint32 block) except -1

    cpdef load(self, object columns, const byte[::1] piece)
    cpdef Py_ssize_t collect(self, Py_ssize_t row) except -1

    @cython.locals(rmgr=uint32, info=uint32, ends=bint,
                   first=Py_ssize_t, i=Py_ssize_t, fork=Fork)
    cdef bint is_plain(self, Py_ssize_t row) except -1

    @cython.locals(at=int64)
    cdef bint is_plain_end(self, Py_ssize_t row) noexcept

    @cython.locals(at=int64, length=int64)
    cdef Py_ssize_t main_place(self, Py_ssize_t row) noexcept

    cdef uint32 main_byte(self, Py_ssize_t row, Py_ssize_t at) noexcept

    @cython.locals(value=uint64)
    cdef uint64 main_time(self, Py_ssize_t row, Py_ssize_t at) noexcept

    @cython.locals(at=Py_ssize_t, length=uint32)
    cdef int clears_bits(self, Py_ssize_t row) noexcept

    @cython.locals(first=Py_ssize_t, count=Py_ssize_t, low=Py_ssize_t, high=Py_ssize_t)
    cdef int add_clears(self, Py_ssize_t row, int clears, uint64 end_lsn,
                        uint64 start_lsn) except -1

    @cython.locals(spc=uint32, db=uint32, rel=uint32, page=uint32)
    cdef int add_clear(self, Py_ssize_t i, uint64 end_lsn, uint64 start_lsn) except -1

    @cython.locals(start_lsn=uint64, end_lsn=uint64, rmgr=uint32, info=uint32, op=uint32,
                   first=Py_ssize_t, i=Py_ssize_t, spc=uint32, db=uint32, rel=uint32,
                   block=uint32, flags=uint32, clears=int, fork=Fork,
                   key_length=Py_ssize_t, kind=int)
    cdef int add_row(self, Py_ssize_t row) except -1

    cdef int add_pair(self, Py_ssize_t key_length, Py_ssize_t length) except -1

    @cython.locals(time_us=uint64, key_length=Py_ssize_t)
    cdef int add_time(self, Py_ssize_t row, uint64 end_lsn, uint64 start_lsn,
                      uint32 kind) except -1
