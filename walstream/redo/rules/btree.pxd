cimport cython
from walstream.redo.rules.btree_page cimport (
    append, begin_scratch, copy_item, end_scratch, init_page, merge_items, restore_items,
    swap_posting, update_posting)
from walstream.redo.rules.index_tuple cimport aligned_length
from walstream.redo.rules.page cimport (
    add_item, expect_special, index_multi_delete, index_tuple_delete, item_at, item_length,
    max_offset)
from walstream.redo.rules.target cimport Target
from walstream.wal.buffer cimport (
    byte, move, put8, put16, put32, put64, u8, u16, u32, u64, uint32, uint64)

cdef uint32 LEAF, ROOT, DELETED, META, HALF_DEAD, HAS_GARBAGE, INCOMPLETE_SPLIT, HAS_FULLXID
cdef uint64 MINUS_ONE

@cython.locals(op=uint32)
cdef int btree_redo(Target t) except -1

cdef int restore_meta(Target t) except -1
cdef int clear_incomplete_split(Target t) except -1
cdef int insert_leaf(Target t) except -1
cdef int insert_upper(Target t) except -1

@cython.locals(offset=uint32, new=Py_ssize_t)
cdef int insert_posting(Target t) except -1

@cython.locals(level=uint32, right=uint32)
cdef int split(Target t) except -1

@cython.locals(first_right=uint32, new_offset=uint32, position=int, on_left=bint, new=Py_ssize_t,
               new_size=Py_ssize_t, key_size=Py_ssize_t, replaced=uint32, new_at=int, posting=int,
               posting_length=uint32, offset=uint32)
cdef int split_left(Target t) except -1

@cython.locals(intervals=int, offset=int, last=int, k=int, items=int)
cdef int dedup(Target t) except -1

@cython.locals(deleted=int, updated=int, numbers=Py_ssize_t, update=Py_ssize_t, end=Py_ssize_t, i=int)
cdef int delete_items(Target t, int at) except -1

cdef int half_dead_leaf(Target t, uint32 left, uint32 right, uint32 top_parent) except -1

@cython.locals(offset=uint32, next_at=int, at=int)
cdef int mark_half_dead(Target t) except -1

@cython.locals(at=Py_ssize_t, flags=uint32)
cdef int unlink_page(Target t) except -1

@cython.locals(level=uint32)
cdef int new_root(Target t) except -1
