cimport cython
from walstream.redo.rules.index_layout cimport (
    INDEX_FLAGS_MASK, INDEX_SIZE_MASK, ip_posid, SizeOfIndexTupleData, t_info, t_tid)
from walstream.redo.rules.index_tuple cimport aligned_length
from walstream.redo.rules.page cimport index_tuple_overwrite, item_at, item_length, page_init
from walstream.redo.rules.target cimport Target
from walstream.rmgr.btree.layout cimport (
    BT_IS_POSTING, BT_OFFSET_MASK, BTMaxItemSize, BTPageOpaque, btpo_flags, btpo_level, btpo_next,
    btpo_prev, INDEX_ALT_TID_MASK, SizeOfBTPageOpaque)
from walstream.wal.buffer cimport byte, fill, move, put16, put32, u16, uint32
from walstream.wal.bufpage cimport (
    BLCKSZ, block_at, item_id_at, line_pointer, LP_NORMAL, maxalign, pd_lower, pd_upper, put_block,
    set_pd_lower, set_pd_upper, SizeOfItemIdData, SizeOfItemPointerData, SizeOfPageHeaderData)

cdef int init_page(Target t, uint32 left, uint32 right, uint32 level, uint32 flags) except -1

@cython.locals(length=Py_ssize_t, at=Py_ssize_t, end=Py_ssize_t, count=Py_ssize_t, upper=Py_ssize_t,
               size=Py_ssize_t)
cdef int restore_items(Target t) except -1

cdef int begin_scratch(Target t) except -1

cdef int end_scratch(Target t) except -1

@cython.locals(lower=Py_ssize_t, upper=Py_ssize_t, aligned=Py_ssize_t)
cdef int append(byte* page, const byte* source, Py_ssize_t at, Py_ssize_t length) except -1

@cython.locals(at=int)
cdef int copy_item(Target t, uint32 offset) except -1

@cython.locals(start=uint32, count=uint32)
cdef int posting_at(const byte* page, int at, uint32 length) except -1

cdef int tids_of(const byte* page, int at, uint32 length) except -1

@cython.locals(first=int, count=int, slot=int, last=int)
cdef int swap_posting(byte* page, int posting, uint32 length, int position, const byte* p,
                      Py_ssize_t new, int target) except -1

@cython.locals(count=int, i=int, base=int, key=int, size=int, lower=int, upper=int, at=int, source=int)
cdef int merge_items(Target t, int offset, int items) except -1

@cython.locals(at=int, source=int, count=int, key=int, left=int, size=int, target=int, gone=int, i=int)
cdef int update_posting(Target t, uint32 offset, Py_ssize_t places, int lost) except -1
