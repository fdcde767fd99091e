cimport cython
from walstream.redo.rules.page cimport (
    add_item, index_multi_delete, index_tuple_delete, item_at, item_id, item_length, max_offset,
    page_init)
from walstream.redo.rules.target cimport Target
from walstream.wal.buffer cimport byte, fill, move, put8, put16, put32, u8, u16, u32, uint32

cdef uint32 INVALID_BLOCK, LEAF, NULLS, REDIRECT, DEAD, PLACEHOLDER

cdef int spgist_redo(Target t) except -1

cdef int unexpected(Target t) except -1
cdef int expect_spgist(const byte* page) except -1
cdef int spgist_init(byte* page, uint32 flags) noexcept
cdef int count_up(byte* page, Py_ssize_t at, int by) noexcept

@cython.locals(length=uint32)
cdef Py_ssize_t leaf_size(Target t, Py_ssize_t at) except -1

@cython.locals(length=uint32)
cdef Py_ssize_t inner_size(Target t, Py_ssize_t at) except -1

@cython.locals(at=int)
cdef int tuple_at(const byte* page, uint32 offset, int minimum) except -1

cdef int add_exactly(byte* page, const byte* source, Py_ssize_t at, uint32 size, uint32 offset) except -1

cdef int add_or_replace(byte* page, const byte* source, Py_ssize_t at, uint32 size, uint32 offset) except -1

@cython.locals(at=int, end=int, cursor=int, nodes=int, i=int)
cdef int set_node_link(byte* page, uint32 offset, uint32 node, long long block, uint32 to) except -1

cdef int set_next(byte* page, uint32 offset, uint32 next_offset) except -1

cdef int form_dead(byte* scratch, uint32 state, long long block, uint32 offset, uint32 xid) except -1

@cython.locals(i=uint32, top=uint32, offset=uint32, found=uint32, first=uint32, state=uint32)
cdef int replace_by_dead(Target t, Py_ssize_t numbers_at, uint32 count, uint32 first_state,
                         uint32 rest_state, long long block, uint32 to, uint32 xid) except -1

@cython.locals(m=Py_ssize_t, size=Py_ssize_t, offset=uint32, head=uint32)
cdef int add_leaf(Target t) except -1

@cython.locals(m=Py_ssize_t, moves=uint32, inserts=uint32, insert_at=Py_ssize_t, at=Py_ssize_t,
               size=Py_ssize_t, i=uint32, to=uint32, building=bint)
cdef int move_leafs(Target t) except -1

@cython.locals(m=Py_ssize_t, size=Py_ssize_t, offset=uint32, new_offset=uint32, parent=uint32,
               new_block="long long", building=bint)
cdef int add_node(Target t) except -1

@cython.locals(m=Py_ssize_t, prefix_size=Py_ssize_t, postfix_at=Py_ssize_t, postfix_size=Py_ssize_t,
               same=bint)
cdef int split_tuple(Target t) except -1

@cython.locals(m=Py_ssize_t, deletes=uint32, inserts=uint32, insert_at=Py_ssize_t, select_at=Py_ssize_t,
               inner_at=Py_ssize_t, size=Py_ssize_t, at=Py_ssize_t, i=uint32, leaf=uint32,
               inner_offset=uint32, building=bint, nulls=uint32)
cdef int pick_split(Target t) except -1

@cython.locals(m=Py_ssize_t, dead=uint32, placeholders=uint32, moves=uint32, chains=uint32, at=Py_ssize_t,
               i=uint32, source=uint32, target=uint32, lp=uint32, top=uint32)
cdef int vacuum_leaf(Target t) except -1

@cython.locals(count=uint32)
cdef int vacuum_root(Target t) except -1

@cython.locals(m=Py_ssize_t, header=Py_ssize_t, count=uint32, first=uint32, top=uint32, i=uint32, at=int)
cdef int vacuum_redirect(Target t) except -1
