cimport cython
from walstream.redo.rules.index_tuple cimport aligned_length
from walstream.redo.rules.page cimport add_item, expect_special, index_multi_delete, page_init
from walstream.redo.rules.target cimport Target
from walstream.rmgr.hash.layout cimport (
    EndOfHashMetaPage, HASH_BMSHIFT, HASH_BMSIZE, HASH_BSIZE, HASH_MAGIC, HASH_MAX_BITMAPS,
    HASH_MAX_SPLITPOINTS, HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE, HASH_SPLITPOINT_PHASES_PER_GRP,
    HASH_VERSION, hashm_bmshift, hashm_bmsize, hashm_bsize, hashm_ffactor, hashm_firstfree,
    hashm_highmask, hashm_lowmask, hashm_magic, hashm_mapp, hashm_maxbucket, hashm_nmaps,
    hashm_ntuples, hashm_ovflpoint, hashm_procid, hashm_spares, hashm_version, hasho_bucket,
    hasho_flag, hasho_nextblkno, HASHO_PAGE_ID, hasho_page_id, hasho_prevblkno, LH_BITMAP_PAGE,
    LH_BUCKET_NEEDS_SPLIT_CLEANUP, LH_META_PAGE, LH_OVERFLOW_PAGE, LH_PAGE_HAS_DEAD_TUPLES,
    LH_UNUSED_PAGE, SizeOfHashPageOpaque, XLH_SPLIT_META_UPDATE_MASKS,
    XLH_SPLIT_META_UPDATE_SPLITPOINT)
from walstream.wal.buffer cimport f64, fill, put8, put16, put32, put_f64, u8, u16, u32, uint32
from walstream.wal.bufpage cimport (
    InvalidBlockNumber, PG_UINT32_MAX, set_pd_lower, SizeOfPageHeaderData)
from walstream.wal.opcodes cimport (
    XLOG_HASH_ADD_OVFL_PAGE, XLOG_HASH_DELETE, XLOG_HASH_INIT_BITMAP_PAGE,
    XLOG_HASH_INIT_META_PAGE, XLOG_HASH_INSERT, XLOG_HASH_MOVE_PAGE_CONTENTS,
    XLOG_HASH_SPLIT_ALLOCATE_PAGE, XLOG_HASH_SPLIT_CLEANUP, XLOG_HASH_SPLIT_COMPLETE,
    XLOG_HASH_SPLIT_PAGE, XLOG_HASH_SQUEEZE_PAGE, XLOG_HASH_UPDATE_META_PAGE,
    XLOG_HASH_VACUUM_ONE_PAGE)


@cython.locals(op=uint32)
cdef int hash_redo(Target t) except -1

cdef int init_page(Target t, uint32 previous, uint32 bucket, uint32 flags) except -1
cdef int init_bitmap_page(Target t, uint32 size) except -1

@cython.locals(n=uint32, one=uint32)
cdef uint32 ceil_log2(uint32 value) noexcept

@cython.locals(group=uint32)
cdef uint32 spare_index(uint32 buckets) noexcept

@cython.locals(half=uint32, one=uint32)
cdef uint32 total_buckets(uint32 phase) noexcept

@cython.locals(tuples=double, fill_factor=uint32, wanted=double, buckets=uint32, phase=uint32,
               high_mask=uint32, one=uint32)
cdef int init_meta(Target t) except -1

@cython.locals(maps=uint32)
cdef int add_bitmap_block(Target t, uint32 block) except -1

cdef int init_bitmap(Target t) except -1
cdef int insert(Target t) except -1

@cython.locals(bit=uint32)
cdef int bitmap_bit(Target t) except -1

@cython.locals(bit=uint32, at=uint32, point=uint32)
cdef int add_overflow(Target t) except -1

@cython.locals(bucket=uint32, at=Py_ssize_t, flags=uint32, point=uint32)
cdef int split_allocate(Target t) except -1

cdef int split_complete(Target t) except -1

@cython.locals(at=Py_ssize_t, end=Py_ssize_t, i=Py_ssize_t, size=Py_ssize_t)
cdef int add_tuples(Target t, Py_ssize_t count) except -1

cdef int delete_items(Target t, Py_ssize_t at, Py_ssize_t length) except -1
cdef int move_contents(Target t) except -1

@cython.locals(count=uint32, same=bint, bit=uint32, at=uint32)
cdef int squeeze(Target t) except -1

cdef int delete(Target t) except -1
cdef int split_cleanup(Target t) except -1
cdef int update_meta(Target t) except -1

@cython.locals(count=Py_ssize_t)
cdef int vacuum_one_page(Target t) except -1
