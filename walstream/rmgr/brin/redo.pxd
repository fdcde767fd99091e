cimport cython
from walstream.redo.rules.index_layout cimport ip_posid
from walstream.redo.rules.page cimport (
    add_item, expect_special, index_delete_no_compact, index_tuple_overwrite, page_init)
from walstream.redo.rules.target cimport Target
from walstream.rmgr.brin.layout cimport (
    BRIN_META_MAGIC, BRIN_PAGETYPE_META, BRIN_PAGETYPE_REGULAR, BRIN_PAGETYPE_REVMAP, brin_type,
    brinMagic, brinVersion, EndOfBrinMetaPage, lastRevmapPage, pagesPerRange, REVMAP_PAGE_MAXITEMS,
    SizeOfBrinSpecialSpace)
from walstream.wal.buffer cimport put16, put32, u16, u32, uint32
from walstream.wal.bufpage cimport (
    InvalidBlockNumber, InvalidOffsetNumber, PAI_OVERWRITE, put_block, set_pd_lower,
    SizeOfItemPointerData, SizeOfPageHeaderData)
from walstream.wal.opcodes cimport (
    XLOG_BRIN_CREATE_INDEX, XLOG_BRIN_DESUMMARIZE, XLOG_BRIN_INIT_PAGE, XLOG_BRIN_INSERT,
    XLOG_BRIN_OPMASK, XLOG_BRIN_REVMAP_EXTEND, XLOG_BRIN_SAMEPAGE_UPDATE, XLOG_BRIN_UPDATE)


@cython.locals(op=uint32)
cdef int brin_redo(Target t) except -1

cdef int create_index(Target t) except -1

@cython.locals(offset=uint32, pages_per_range=uint32, heap_block=uint32)
cdef int insert(Target t, int at) except -1

cdef int delete_old(Target t) except -1
cdef int samepage_update(Target t) except -1
cdef int revmap_extend(Target t) except -1
cdef int desummarize(Target t) except -1

@cython.locals(at=uint32)
cdef int set_revmap(Target t, uint32 pages_per_range, uint32 heap_block, uint32 block,
                    uint32 offset) except -1
