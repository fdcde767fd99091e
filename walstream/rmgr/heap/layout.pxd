# layout.py for compiled kernels: C constants.

cdef enum:
    # HeapTupleHeaderData: where the fields lie; t_cid is one meaning of t_field3.
    t_xmin = 0
    t_xmax = 4
    t_cid = 8
    t_ctid = 12
    t_ctid_offset = 16
    t_infomask2 = 18
    t_infomask = 20
    t_hoff = 22
    SizeofHeapTupleHeader = 23

    SizeOfHeapHeader = 5
    SizeOfMultiInsertTuple = 7

    # Main data of records: how long its fixed part is, and where in it the flags lie.
    SizeOfHeapInsert = 3
    xl_heap_insert_flags = 2
    SizeOfHeapDelete = 8
    xl_heap_delete_flags = 7
    SizeOfHeapUpdate = 14
    xl_heap_update_flags = 7
    SizeOfHeapLock = 8
    xl_heap_lock_flags = 7
    SizeOfHeapLockUpdated = 8
    xl_heap_lock_updated_flags = 7
    SizeOfHeapMultiInsert = 4
    xl_heap_multi_insert_flags = 0

    # xlhp_freeze_plan, in 16 xl_heap_freeze_plan: what several tuples get.
    xlhp_freeze_plan_xmax = 0
    xlhp_freeze_plan_t_infomask2 = 4
    xlhp_freeze_plan_t_infomask = 6
    xlhp_freeze_plan_frzflags = 8
    xlhp_freeze_plan_ntuples = 10
    SizeOfFreezePlan = 12

    # t_infomask
    HEAP_XMAX_KEYSHR_LOCK = 0x0010
    HEAP_COMBOCID = 0x0020
    HEAP_XMAX_EXCL_LOCK = 0x0040
    HEAP_XMAX_LOCK_ONLY = 0x0080
    HEAP_LOCK_MASK = 0x0050
    HEAP_XMIN_COMMITTED = 0x0100
    HEAP_XMIN_INVALID = 0x0200
    HEAP_XMIN_FROZEN = 0x0300
    HEAP_XMAX_COMMITTED = 0x0400
    HEAP_XMAX_INVALID = 0x0800
    HEAP_XMAX_IS_MULTI = 0x1000
    HEAP_MOVED = 0xC000
    HEAP_XMAX_BITS = 0x1CD0
    HEAP_XACT_MASK = 0xFFF0
    # All four hint bits, of xmin and of xmax.
    HEAP_HINT_BITS = 0x0F00

    # t_infomask2
    HEAP_KEYS_UPDATED = 0x2000
    HEAP_HOT_UPDATED = 0x4000

    # Offset numbers in t_ctid that are none.
    SpecTokenOffsetNumber = 0xFFFE
    MovedPartitionsOffsetNumber = 0xFFFD

    MaxHeapTuplesPerPage = 291
    MaxHeapTupleSize = 8160

    # The visibility map has two bits a heap block.
    BITS_PER_HEAPBLOCK = 2
    HEAPBLOCKS_PER_BYTE = 4
    HEAPBLOCKS_PER_PAGE = 32672
    # Where bits of two heap blocks are one number (effects), those of the old block are shifted.
    OLD_BLOCK_SHIFT = 2

    # A sequence is one tuple on a heap page with this in its special area (sequence.c).
    SEQ_MAGIC = 0x1717
    SizeOfSequenceMagic = 4
