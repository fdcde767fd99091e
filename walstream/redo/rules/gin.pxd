cimport cython
from walstream.redo.rules.gin_posting cimport expect_flags, recompress
from walstream.redo.rules.index_tuple cimport append_tuples, tuple_length
from walstream.redo.rules.page cimport add_item, index_tuple_delete, item_at, item_length, page_init
from walstream.redo.rules.target cimport Target
from walstream.wal.buffer cimport (
    byte, move, put16, put32, u8, u16, u32, uint32)

cdef uint32 INVALID_BLOCK, DATA, LEAF, DELETED, META, LIST, LIST_FULLROW, INCOMPLETE_SPLIT, COMPRESSED

cdef int gin_redo(Target t) except -1

cdef int gin_init(byte* page, uint32 flags) noexcept
cdef int meta_page(Target t, Py_ssize_t metadata_at) except -1
cdef int clear_incomplete_split(Target t) except -1

@cython.locals(size=uint32)
cdef int create_posting_tree(Target t) except -1

@cython.locals(flags=uint32, right=uint32)
cdef int insert(Target t) except -1

@cython.locals(offset=uint32, size=uint32, at=int)
cdef int insert_entry(Target t, uint32 right) except -1

@cython.locals(offset=uint32, count=uint32, at=Py_ssize_t)
cdef int insert_posting_item(Target t, uint32 right) except -1

@cython.locals(offset=uint32, count=uint32, at=Py_ssize_t)
cdef int delete_posting_item(Target t, uint32 offset) except -1

cdef int delete_page(Target t) except -1

@cython.locals(count=uint32)
cdef int update_meta(Target t) except -1

@cython.locals(right=uint32)
cdef int insert_list_page(Target t) except -1

cdef int delete_list_pages(Target t) except -1
