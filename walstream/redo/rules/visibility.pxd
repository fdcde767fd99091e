cimport cython
from walstream.redo.rules.page cimport page_init
from walstream.redo.rules.target cimport Target
from walstream.wal.buffer cimport byte, fill, put8, u8, u16, u32, uint32
from walstream.wal.record cimport RecordReader

@cython.locals(at=Py_ssize_t, shift=uint32, bits=uint32)
cdef int visibility_set(byte* page, uint32 heap_block, uint32 flags) noexcept

@cython.locals(at=Py_ssize_t, bits=uint32)
cdef int visibility_clear(byte* page, uint32 heap_block, uint32 flags) noexcept

@cython.locals(op=uint32, flags=uint32, outcome=int)
cdef int visibility_redo(Target t, uint32 spc, uint32 db, uint32 rel) except -1

@cython.locals(r=RecordReader, i=int)
cdef int clear_for(Target t, int block_id, uint32 flags, uint32 spc, uint32 db, uint32 rel) except -1

@cython.locals(blocks=uint32, at=Py_ssize_t, rest=uint32)
cdef int truncate_tail(Target t, uint32 spc, uint32 db, uint32 rel) except -1
