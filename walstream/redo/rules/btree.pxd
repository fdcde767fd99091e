cimport cython
from walstream.redo.rules.page cimport (
    add_item, index_multi_delete, index_tuple_delete, index_tuple_overwrite, item_at, item_length,
    max_offset, page_init)
from walstream.redo.rules.target cimport Target
from walstream.wal.buffer cimport (
    byte, fill, move, put8, put16, put32, put64, u8, u16, u32, u64, uint32, uint64)

cdef uint32 LEAF, ROOT, DELETED, META, HALF_DEAD, HAS_GARBAGE, INCOMPLETE_SPLIT, HAS_FULLXID
cdef uint64 MINUS_ONE

@cython.locals(op=uint32)
cdef int btree_redo(Target t) except -1

cdef int no_block(Target t) except -1
cdef int check_page(Target t) except -1
cdef int init_page(Target t, uint32 left, uint32 right, uint32 level, uint32 flags) except -1

@cython.locals(size=Py_ssize_t)
cdef Py_ssize_t tuple_size(const byte* p, Py_ssize_t at, Py_ssize_t available) except -1

@cython.locals(start=uint32)
cdef int posting_at(const byte* page, int at, uint32 length) except -1

@cython.locals(length=Py_ssize_t, at=Py_ssize_t, end=Py_ssize_t, count=Py_ssize_t, upper=Py_ssize_t,
               size=Py_ssize_t)
cdef int restore_items(Target t) except -1

cdef int restore_meta(Target t) except -1
cdef int clear_incomplete_split(Target t) except -1
cdef int insert_leaf(Target t) except -1
cdef int insert_upper(Target t) except -1

@cython.locals(first=int, count=int, slot=int, last=int)
cdef int swap_posting(byte* page, int posting, uint32 length, int position, const byte* p,
                      Py_ssize_t new, int target) except -1

@cython.locals(offset=uint32, new=Py_ssize_t)
cdef int insert_posting(Target t) except -1

@cython.locals(lower=Py_ssize_t, upper=Py_ssize_t, aligned=Py_ssize_t)
cdef int append(byte* page, const byte* source, Py_ssize_t at, Py_ssize_t length) except -1

cdef int begin_scratch(Target t) except -1
cdef int end_scratch(Target t) except -1

@cython.locals(at=int)
cdef int copy_item(Target t, uint32 offset) except -1

@cython.locals(level=uint32, right=uint32)
cdef int split(Target t) except -1

@cython.locals(number="long long")
cdef long long other_block(Target t, int block_id) except -1

@cython.locals(first_right=uint32, new_offset=uint32, position=int, on_left=bint, new=Py_ssize_t,
               new_size=Py_ssize_t, key_size=Py_ssize_t, replaced=uint32, new_at=int, posting=int,
               posting_length=uint32, offset=uint32)
cdef int split_left(Target t) except -1

cdef int tids_of(const byte* page, int at, uint32 length) except -1

@cython.locals(intervals=int, offset=int, last=int, k=int, items=int)
cdef int dedup(Target t) except -1

@cython.locals(count=int, i=int, base=int, key=int, size=int, lower=int, upper=int, at=int, source=int)
cdef int merge_items(Target t, int offset, int items) except -1

@cython.locals(deleted=int, updated=int, numbers=Py_ssize_t, update=Py_ssize_t, end=Py_ssize_t, i=int)
cdef int delete_items(Target t, int at) except -1

@cython.locals(at=int, source=int, count=int, key=int, left=int, size=int, target=int, gone=int, i=int)
cdef int update_posting(Target t, uint32 offset, Py_ssize_t places, int lost) except -1

cdef int half_dead_leaf(Target t, uint32 left, uint32 right, uint32 top_parent) except -1

@cython.locals(offset=uint32, next_at=int, at=int)
cdef int mark_half_dead(Target t) except -1

@cython.locals(at=Py_ssize_t, flags=uint32)
cdef int unlink_page(Target t) except -1

@cython.locals(level=uint32)
cdef int new_root(Target t) except -1
