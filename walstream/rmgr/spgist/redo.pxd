cimport cython
from walstream.redo.rules.page cimport (
    expect_special, index_multi_delete, index_tuple_delete, item_id, max_offset)
from walstream.redo.rules.target cimport Target
from walstream.rmgr.spgist.layout cimport (
    sgdt_pointer, sgdt_posid, SGDTSIZE, SizeOfSpGistPageOpaque, SPGIST_DEAD, SPGIST_LEAF,
    spgist_nPlaceholder, spgist_nRedirection, SPGIST_NULLS, SPGIST_PLACEHOLDER, SPGIST_REDIRECT)
from walstream.rmgr.spgist.page cimport (
    add_exactly, add_or_replace, count_up, form_dead, inner_size, leaf_size, replace_by_dead,
    set_next, set_node_link, spgist_init, tuple_at)
from walstream.wal.buffer cimport put16, put32, u8, u16, u32, uint32
from walstream.wal.bufpage cimport InvalidBlockNumber, InvalidOffsetNumber, item_id_at
from walstream.wal.opcodes cimport (
    XLOG_SPGIST_ADD_LEAF, XLOG_SPGIST_ADD_NODE, XLOG_SPGIST_MOVE_LEAFS, XLOG_SPGIST_PICKSPLIT,
    XLOG_SPGIST_SPLIT_TUPLE, XLOG_SPGIST_VACUUM_LEAF, XLOG_SPGIST_VACUUM_REDIRECT,
    XLOG_SPGIST_VACUUM_ROOT)


cdef int spgist_redo(Target t) except -1

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
