cimport cython
from walstream.redo.rules.index_layout cimport (
    INDEX_SIZE_MASK, ip_posid, SizeOfIndexTupleData, t_info)
from walstream.redo.rules.page cimport (
    add_item, index_multi_delete, index_tuple_delete, item_at, item_length, max_offset, page_init)
from walstream.redo.rules.target cimport Target
from walstream.rmgr.spgist.layout cimport (
    sgdt_pointer, sgdt_posid, sgdt_xid, SGDTSIZE, sgit_size, SGITHDRSZ, sglt_info,
    SGLT_NEXT_OFFSET_MASK, SGLT_SIZE_SHIFT, SGLTHDRSZ, SizeOfSpGistPageOpaque, spgist_flags,
    spgist_nPlaceholder, spgist_nRedirection, SPGIST_PAGE_ID, spgist_page_id, SPGIST_PLACEHOLDER,
    SPGIST_REDIRECT, SPGIST_STATE_MASK)
from walstream.wal.buffer cimport byte, fill, put8, put16, put32, u8, u16, u32, uint32
from walstream.wal.bufpage cimport InvalidBlockNumber, InvalidOffsetNumber, put_block


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
