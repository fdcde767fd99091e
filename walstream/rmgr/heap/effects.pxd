cimport cython
from walstream.rmgr.heap.layout cimport (
    OLD_BLOCK_SHIFT, SizeOfFreezePlan, SizeOfHeapDelete, SizeOfHeapInsert, SizeOfHeapLock,
    SizeOfHeapLockUpdated, SizeOfHeapMultiInsert, SizeOfHeapUpdate, xl_heap_delete_flags, xl_heap_insert_flags,
    xl_heap_lock_flags, xl_heap_lock_updated_flags, xl_heap_multi_insert_flags,
    xl_heap_update_flags)
from walstream.wal.buffer cimport byte, bytes_of, u8, u16, uint32
from walstream.wal.layout cimport MAIN_FORKNUM, RM_HEAP2_ID, RM_HEAP_ID
from walstream.wal.opcodes cimport (
    VISIBILITYMAP_ALL_FROZEN, VISIBILITYMAP_VALID_BITS, XLH_DELETE_ALL_VISIBLE_CLEARED,
    XLH_INSERT_ALL_VISIBLE_CLEARED, XLH_LOCK_ALL_FROZEN_CLEARED,
    XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED, XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED, XLHP_HAS_DEAD_ITEMS,
    XLHP_HAS_FREEZE_PLANS, XLHP_HAS_NOW_UNUSED_ITEMS, XLHP_HAS_REDIRECTIONS,
    XLOG_HEAP2_LOCK_UPDATED, XLOG_HEAP2_MULTI_INSERT, XLOG_HEAP_DELETE, XLOG_HEAP_HOT_UPDATE,
    XLOG_HEAP_INSERT, XLOG_HEAP_LOCK, XLOG_HEAP_OPMASK, XLOG_HEAP_UPDATE)
from walstream.wal.record cimport RecordReader

@cython.locals(op=uint32, flags=uint32, bits=int)
cdef int cleared_bits(const byte* p, Py_ssize_t at, Py_ssize_t length, uint32 rmgr,
                      uint32 info) noexcept

@cython.locals(bits=int)
cpdef tuple visibility_clears(uint32 rmgr, uint32 info, bytes main_data)

@cython.locals(i=int)
cpdef int new_heap_block(RecordReader reader) noexcept

@cython.locals(i=int)
cpdef int old_heap_block(RecordReader reader) noexcept

@cython.final
cdef class PruneParts:
    cdef readonly Py_ssize_t plans
    cdef readonly Py_ssize_t plans_at
    cdef readonly Py_ssize_t redirected
    cdef readonly Py_ssize_t redirected_at
    cdef readonly Py_ssize_t dead
    cdef readonly Py_ssize_t dead_at
    cdef readonly Py_ssize_t unused
    cdef readonly Py_ssize_t unused_at
    cdef readonly Py_ssize_t offsets_at

    @cython.locals(end=Py_ssize_t)
    cdef int find(self, const byte* p, Py_ssize_t at, Py_ssize_t length, uint32 flags) noexcept
    @cython.locals(rest=Py_ssize_t)
    cpdef int find_counted(self, Py_ssize_t at, Py_ssize_t length, Py_ssize_t redirected,
                          Py_ssize_t dead) noexcept
    cpdef find_bytes(self, bytes data, uint32 flags)
