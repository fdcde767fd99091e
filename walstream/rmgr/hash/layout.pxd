# layout.py for compiled kernels: C constants.

cdef enum:
    # HashPageOpaqueData: where the fields lie.
    HashPageOpaque = 8176
    hasho_prevblkno = 8176
    hasho_nextblkno = 8180
    hasho_bucket = 8184
    hasho_flag = 8188
    hasho_page_id = 8190
    SizeOfHashPageOpaque = 16
    HASHO_PAGE_ID = 0xFF80

    LH_UNUSED_PAGE = 0x00
    LH_OVERFLOW_PAGE = 0x01
    LH_BUCKET_PAGE = 0x02
    LH_BITMAP_PAGE = 0x04
    LH_META_PAGE = 0x08
    LH_PAGE_TYPE = 0x0F
    LH_BUCKET_BEING_POPULATED = 0x10
    LH_BUCKET_BEING_SPLIT = 0x20
    LH_BUCKET_NEEDS_SPLIT_CLEANUP = 0x40
    LH_PAGE_HAS_DEAD_TUPLES = 0x80

    # HashMetaPageData: where the fields lie.
    hashm_magic = 24
    hashm_version = 28
    hashm_ntuples = 32
    hashm_ffactor = 40
    hashm_bsize = 42
    hashm_bmsize = 44
    hashm_bmshift = 46
    hashm_maxbucket = 48
    hashm_highmask = 52
    hashm_lowmask = 56
    hashm_ovflpoint = 60
    hashm_firstfree = 64
    hashm_nmaps = 68
    hashm_procid = 72
    hashm_spares = 76
    hashm_mapp = 468
    EndOfHashMetaPage = 4568
    HASH_MAGIC = 0x6440640
    HASH_VERSION = 4
    HASH_MAX_SPLITPOINTS = 98
    HASH_MAX_BITMAPS = 1024
    HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE = 10
    HASH_SPLITPOINT_PHASES_PER_GRP = 4

    # What a page has between header and special area, and what of that a bitmap uses: the largest
    # power of two, in bytes and as the shift of its bits.
    HASH_BSIZE = 8152
    HASH_BMSIZE = 4096
    HASH_BMSHIFT = 15

    # Flags of SPLIT_ALLOCATE_PAGE (hash_xlog.h).
    XLH_SPLIT_META_UPDATE_MASKS = 0x01
    XLH_SPLIT_META_UPDATE_SPLITPOINT = 0x02
