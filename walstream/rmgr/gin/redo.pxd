cimport cython
from walstream.redo.rules.index_layout cimport ip_posid, SizeOfIndexTupleData
from walstream.redo.rules.index_tuple cimport append_tuples, tuple_length
from walstream.redo.rules.page cimport (
    add_item, index_tuple_delete, item_at, item_length, page_init)
from walstream.redo.rules.target cimport Target
from walstream.rmgr.gin.layout cimport (
    EndOfGinMetaPage, GIN_COMPRESSED, GIN_DATA, GIN_DELETED, gin_flags, GIN_INCOMPLETE_SPLIT,
    GIN_INSERT_ISDATA, GIN_INSERT_ISLEAF, GIN_LEAF, GIN_LIST, GIN_LIST_FULLROW, gin_maxoff,
    GIN_META, gin_rightlink, GinDataPageData, GinDataPageMaxDataSize, GinPageOpaque,
    SizeOfGinMetaPageData, SizeOfGinPageOpaque, SizeOfPostingItem)
from walstream.rmgr.gin.posting cimport expect_flags, recompress
from walstream.wal.buffer cimport byte, move, put16, put32, u8, u16, u32, uint32
from walstream.wal.bufpage cimport (
    block_at, FirstOffsetNumber, InvalidBlockNumber, InvalidOffsetNumber, put_block, set_pd_lower,
    set_pd_prune_xid, SizeOfPageHeaderData)
from walstream.wal.opcodes cimport (
    XLOG_GIN_CREATE_PTREE, XLOG_GIN_DELETE_LISTPAGE, XLOG_GIN_DELETE_PAGE, XLOG_GIN_INSERT,
    XLOG_GIN_INSERT_LISTPAGE, XLOG_GIN_SPLIT, XLOG_GIN_UPDATE_META_PAGE,
    XLOG_GIN_VACUUM_DATA_LEAF_PAGE, XLOG_GIN_VACUUM_PAGE)


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
