# layout.py for compiled kernels: C constants.

cdef enum:
    # SpGistPageOpaqueData: where the fields lie.
    SpGistPageOpaque = 8184
    spgist_flags = 8184
    spgist_nRedirection = 8186
    spgist_nPlaceholder = 8188
    spgist_page_id = 8190
    SizeOfSpGistPageOpaque = 8
    SPGIST_PAGE_ID = 0xFF82

    SPGIST_META = 0x01
    SPGIST_DELETED = 0x02
    SPGIST_LEAF = 0x04
    SPGIST_NULLS = 0x08

    # tupstate, the lowest two bits of every tuple.
    SPGIST_LIVE = 0
    SPGIST_REDIRECT = 1
    SPGIST_DEAD = 2
    SPGIST_PLACEHOLDER = 3
    SPGIST_STATE_MASK = 3

    # Tuples: where the fields lie, and the shortest there are. The size of a leaf or dead tuple is in
    # the high 30 bits of its first word.
    SGLT_SIZE_SHIFT = 2
    sglt_info = 4
    SGLT_NEXT_OFFSET_MASK = 0x3FFF
    SGLTHDRSZ = 12
    sgit_size = 4
    SGITHDRSZ = 8
    sgdt_pointer = 6
    sgdt_posid = 10
    sgdt_xid = 12
    SGDTSIZE = 16
