cimport cython
from walstream.redo.rules.index_layout cimport ip_posid
from walstream.redo.rules.target cimport Target
from walstream.rmgr.gin.layout cimport (
    GIN_COMPRESSED, GIN_DATA, gin_flags, GIN_ITEM_BITS, GIN_LEAF, gin_maxoff, GIN_SEGMENT_ADDITEMS,
    GIN_SEGMENT_DELETE, GIN_SEGMENT_INSERT, GIN_SEGMENT_REPLACE, GinDataPageData, GinPageOpaque,
    MaxHeapTuplesPerPageBits, posting_nbytes, SizeOfGinPostingList)
from walstream.wal.buffer cimport byte, move, put8, put16, u8, u16, uint32, uint64
from walstream.wal.bufpage cimport (
    pd_lower, pd_special, pd_upper, set_pd_lower, SizeOfItemPointerData)


cdef int expect_flags(const byte* page, uint32 mask, uint32 wanted) except -1

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
