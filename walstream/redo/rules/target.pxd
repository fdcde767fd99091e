cimport cython
from walstream.rmgr.heap.effects cimport PruneParts
from walstream.wal.buffer cimport byte, uint32, uint64, writable_of
from walstream.wal.bufpage cimport BLCKSZ
from walstream.wal.record cimport RecordReader

@cython.final
cdef class Target:
    cdef readonly int version
    cdef readonly bint stamp_hints
    cdef readonly RecordReader reader
    cdef const byte* p
    cdef byte* page
    cdef byte* scratch
    cdef PruneParts pruned
    cdef bytearray page_memory
    cdef bytearray scratch_memory
    cdef readonly int i
    cdef readonly int block_id
    cdef readonly uint32 block
    cdef readonly uint32 fork
    cdef readonly bint will_init
    cdef readonly uint64 end_lsn
    cdef readonly uint32 xid
    cdef readonly uint32 rmgr
    cdef readonly uint32 info
    cdef readonly uint32 op
    cdef readonly Py_ssize_t data_at
    cdef readonly Py_ssize_t data_length
    cdef readonly Py_ssize_t main_at
    cdef readonly Py_ssize_t main_length

    cdef int need_main(self, Py_ssize_t length) except -1
    cdef int need_data(self, Py_ssize_t length) except -1

    @cython.locals(i=int)
    cdef long long block_number(self, int block_id) noexcept
    @cython.locals(i=int)
    cdef Py_ssize_t need_block(self, int block_id) except -1
    cdef int no_block(self) except -1
