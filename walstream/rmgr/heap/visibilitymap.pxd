cimport cython
from walstream.redo.rules.page cimport page_init
from walstream.redo.rules.target cimport Target
from walstream.rmgr.heap.effects cimport cleared_bits, new_heap_block, old_heap_block
from walstream.rmgr.heap.layout cimport (
    BITS_PER_HEAPBLOCK, HEAPBLOCKS_PER_BYTE, HEAPBLOCKS_PER_PAGE, OLD_BLOCK_SHIFT)
from walstream.wal.buffer cimport byte, fill, put8, u8, u32, uint32
from walstream.wal.bufpage cimport BLCKSZ, pd_upper, SizeOfPageHeaderData
from walstream.wal.layout cimport RM_SMGR_ID
from walstream.wal.opcodes cimport SMGR_TRUNCATE_VM, VISIBILITYMAP_VALID_BITS, XLOG_SMGR_TRUNCATE
from walstream.wal.record cimport RecordReader

@cython.locals(at=Py_ssize_t, shift=uint32, bits=uint32)
cdef int visibility_set(byte* page, uint32 heap_block, uint32 flags) noexcept

@cython.locals(at=Py_ssize_t, bits=uint32)
cdef int visibility_clear(byte* page, uint32 heap_block, uint32 flags) noexcept

@cython.locals(bits=int, flags=int, outcome=int)
cdef int visibility_redo(Target t, uint32 spc, uint32 db, uint32 rel) except -1

@cython.locals(r=RecordReader)
cdef int clear_for(Target t, int i, uint32 flags, uint32 spc, uint32 db, uint32 rel) except -1

@cython.locals(blocks=uint32, at=Py_ssize_t, rest=uint32)
cdef int truncate_tail(Target t, uint32 spc, uint32 db, uint32 rel) except -1
