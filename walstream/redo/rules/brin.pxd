cimport cython
from walstream.redo.rules.page cimport (
    add_item, expect_special, index_delete_no_compact, index_tuple_overwrite, page_init)
from walstream.redo.rules.target cimport Target
from walstream.wal.buffer cimport put16, put32, u16, u32, uint32

cdef uint32 META_MAGIC, INVALID_BLOCK

@cython.locals(op=uint32)
cdef int brin_redo(Target t) except -1

cdef int create_index(Target t) except -1

@cython.locals(offset=uint32, pages_per_range=uint32, heap_block=uint32)
cdef int insert(Target t, int at) except -1

cdef int delete_old(Target t) except -1
cdef int samepage_update(Target t) except -1
cdef int revmap_extend(Target t) except -1
cdef int desummarize(Target t) except -1

@cython.locals(at=uint32)
cdef int set_revmap(Target t, uint32 pages_per_range, uint32 heap_block, uint32 block,
                    uint32 offset) except -1
