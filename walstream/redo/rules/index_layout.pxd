# index_layout.py for compiled kernels: C constants.

cdef enum:
    # IndexTupleData: where the fields lie.
    t_tid = 0
    ip_posid = 4
    t_info = 6
    SizeOfIndexTupleData = 8

    INDEX_SIZE_MASK = 0x1FFF
    INDEX_FLAGS_MASK = 0xE000
    INDEX_AM_RESERVED_BIT = 0x2000
