cimport cython
from walstream.redo.rules.page cimport (
    add_item, index_tuple_delete, item_at, item_length, max_offset, page_init)
from walstream.redo.rules.target cimport Target
from walstream.wal.buffer cimport (
    byte, move, put8, put16, put32, u8, u16, u32, uint32, uint64)

cdef uint32 INVALID_BLOCK, DATA, LEAF, DELETED, META, LIST, LIST_FULLROW, INCOMPLETE_SPLIT, COMPRESSED

cdef int gin_redo(Target t) except -1

cdef int expect_flags(const byte* page, uint32 mask, uint32 wanted) except -1
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

@cython.locals(count=uint32, at=Py_ssize_t, end=Py_ssize_t, size=uint32, offset=uint32, i=uint32)
cdef int add_tuples(Target t, uint32 count) except -1

@cython.locals(count=uint32)
cdef int update_meta(Target t) except -1

@cython.locals(right=uint32)
cdef int insert_list_page(Target t) except -1

cdef int delete_list_pages(Target t) except -1

@cython.locals(size=Py_ssize_t)
cdef Py_ssize_t segment_size(const byte* p, Py_ssize_t at, Py_ssize_t end) except -1

@cython.locals(limit=Py_ssize_t, end=Py_ssize_t, read=Py_ssize_t, write=Py_ssize_t,
               cursor=Py_ssize_t, stop=Py_ssize_t, actions=uint32, i=uint32,
               segment=uint32, number=uint32, action=uint32, size=Py_ssize_t, payload_at=Py_ssize_t,
               payload_size=Py_ssize_t, count=uint32)
cdef int recompress(Target t) except -1

@cython.locals(count=uint32)
cdef int convert_old_leaf(Target t, Py_ssize_t limit) except -1

@cython.locals(offset=uint32, value=uint64)
cdef uint64 item_value(const byte* p, Py_ssize_t at) except? 0

@cython.locals(out=Py_ssize_t, at=Py_ssize_t, end=Py_ssize_t, i=uint32, have_old=bint, first=bint,
               older=uint64, newer=uint64, value=uint64, previous=uint64, delta=uint64,
               shift=uint32, c=uint64, length=Py_ssize_t)
cdef Py_ssize_t merge_items(byte* page, Py_ssize_t write, Py_ssize_t limit,
                            const byte* old, Py_ssize_t old_at,
                            const byte* new, Py_ssize_t new_at, uint32 count) except -1
