cimport cython
from walstream.redo.rules.index_tuple cimport append_tuples, tuple_length
from walstream.redo.rules.page cimport (
    expect_special, index_multi_delete, index_tuple_delete, index_tuple_overwrite, max_offset,
    page_init)
from walstream.redo.rules.target cimport Target
from walstream.rmgr.gist.layout cimport (
    deleteXid, EndOfGISTDeletedPage, F_DELETED, F_FOLLOW_RIGHT, F_HAS_GARBAGE, F_LEAF,
    F_TUPLES_DELETED, gist_flags, gist_nsn, gist_page_id, GIST_PAGE_ID, gist_rightlink,
    GIST_ROOT_BLKNO, SizeOfGISTPageOpaque)
from walstream.wal.buffer cimport byte, move, put16, put32, u8, u16, u32, u64, uint32, uint64
from walstream.wal.bufpage cimport (
    InvalidBlockNumber, pd_lower, pd_upper, PG_UINT32_MAX, set_pd_lower)
from walstream.wal.opcodes cimport (
    XLOG_GIST_DELETE, XLOG_GIST_PAGE_DELETE, XLOG_GIST_PAGE_SPLIT, XLOG_GIST_PAGE_UPDATE)


cdef int gist_redo(Target t) except -1
cdef int gist_after_image(Target t) except -1

cdef int set_flags(byte* page, uint32 clear, uint32 add) noexcept
cdef int set_nsn(byte* page, uint64 nsn) noexcept
cdef int clear_follow_right(Target t) except -1

@cython.locals(at=Py_ssize_t, size=Py_ssize_t, deletes=uint32, inserts=uint32)
cdef int page_update(Target t) except -1

@cython.locals(header=Py_ssize_t, count=uint32)
cdef int delete(Target t) except -1

@cython.locals(pages=uint32, index=uint32, flags=uint32, right="long long", last=bint)
cdef int page_split(Target t) except -1

cdef int page_delete(Target t) except -1
