cimport cython
from walstream.redo.rules.page cimport page_init
from walstream.redo.rules.target cimport Target
from walstream.rmgr.heap.layout cimport (
    BITS_PER_HEAPBLOCK, HEAPBLOCKS_PER_BYTE, HEAPBLOCKS_PER_PAGE)
from walstream.wal.buffer cimport byte, fill, put8, u8, u32, uint32
from walstream.wal.bufpage cimport BLCKSZ, pd_upper, SizeOfPageHeaderData
from walstream.wal.layout cimport MAIN_FORKNUM, RM_HEAP2_ID, RM_HEAP_ID, RM_SMGR_ID
from walstream.wal.opcodes cimport (
    SMGR_TRUNCATE_VM, VISIBILITYMAP_ALL_FROZEN, VISIBILITYMAP_VALID_BITS,
    XLH_DELETE_ALL_VISIBLE_CLEARED, XLH_INSERT_ALL_VISIBLE_CLEARED, XLH_LOCK_ALL_FROZEN_CLEARED,
    XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED, XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED,
    XLOG_HEAP2_LOCK_UPDATED, XLOG_HEAP2_MULTI_INSERT, XLOG_HEAP_DELETE, XLOG_HEAP_HOT_UPDATE,
    XLOG_HEAP_INSERT, XLOG_HEAP_LOCK, XLOG_HEAP_OPMASK, XLOG_HEAP_UPDATE, XLOG_SMGR_TRUNCATE)
from walstream.wal.record cimport RecordReader

@cython.locals(at=Py_ssize_t, shift=uint32, bits=uint32)
cdef int visibility_set(byte* page, uint32 heap_block, uint32 flags) noexcept

@cython.locals(at=Py_ssize_t, bits=uint32)
cdef int visibility_clear(byte* page, uint32 heap_block, uint32 flags) noexcept

@cython.locals(op=uint32, flags=uint32, outcome=int, old=int)
cdef int visibility_redo(Target t, uint32 spc, uint32 db, uint32 rel) except -1

@cython.locals(r=RecordReader, i=int)
cdef int clear_for(Target t, int block_id, uint32 flags, uint32 spc, uint32 db, uint32 rel) except -1

@cython.locals(blocks=uint32, at=Py_ssize_t, rest=uint32)
cdef int truncate_tail(Target t, uint32 spc, uint32 db, uint32 rel) except -1
