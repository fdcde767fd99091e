# bufpage.py for compiled kernels: C constants and inline functions, unchecked.

from walstream.wal.buffer cimport byte, put16, put32, u16, u32, uint32, uint64

cdef enum:
    BLCKSZ = 8192

    # PageHeaderData: where the fields lie.
    pd_lsn_at = 0
    pd_checksum_at = 8
    pd_flags_at = 10
    pd_lower_at = 12
    pd_upper_at = 14
    pd_special_at = 16
    pd_pagesize_version_at = 18
    pd_prune_xid_at = 20
    SizeOfPageHeaderData = 24
    PG_PAGE_LAYOUT_VERSION = 4

    PD_HAS_FREE_LINES = 0x0001
    PD_PAGE_FULL = 0x0002
    PD_ALL_VISIBLE = 0x0004

    # ItemIdData: offset in bits 0 to 14, flags in 15 and 16, length in 17 to 31.
    SizeOfItemIdData = 4
    LP_UNUSED = 0
    LP_NORMAL = 1
    LP_REDIRECT = 2
    LP_DEAD = 3

    # Flags of PageAddItemExtended.
    PAI_OVERWRITE = 0x01
    PAI_IS_HEAP = 0x02

    # ItemPointerData: block (high u16, low u16), offset number u16.
    SizeOfItemPointerData = 6
    FirstOffsetNumber = 1
    InvalidOffsetNumber = 0

    # transam.h
    InvalidTransactionId = 0
    FrozenTransactionId = 2
    FirstNormalTransactionId = 3

# Above 31 bits, which an enum of C cannot hold and a literal of Cython makes a Python object of.
cdef extern from * nogil:
    """
    #define InvalidBlockNumber 0xFFFFFFFFu
    #define PG_UINT32_MAX 0xFFFFFFFFu
    """
    const uint32 InvalidBlockNumber
    const uint32 PG_UINT32_MAX

cdef inline uint32 pd_flags(const byte* page) noexcept nogil:
    return u16(page, pd_flags_at)

cdef inline uint32 pd_lower(const byte* page) noexcept nogil:
    return u16(page, pd_lower_at)

cdef inline uint32 pd_upper(const byte* page) noexcept nogil:
    return u16(page, pd_upper_at)

cdef inline uint32 pd_special(const byte* page) noexcept nogil:
    return u16(page, pd_special_at)

cdef inline uint32 pd_prune_xid(const byte* page) noexcept nogil:
    return u32(page, pd_prune_xid_at)

cdef inline uint64 pd_lsn(const byte* page) noexcept nogil:
    return <uint64>u32(page, 0) << 32 | u32(page, 4)

cdef inline void set_pd_flags(byte* page, uint32 value) noexcept nogil:
    put16(page, pd_flags_at, value)

cdef inline void set_pd_lower(byte* page, uint32 value) noexcept nogil:
    put16(page, pd_lower_at, value)

cdef inline void set_pd_upper(byte* page, uint32 value) noexcept nogil:
    put16(page, pd_upper_at, value)

cdef inline void set_pd_special(byte* page, uint32 value) noexcept nogil:
    put16(page, pd_special_at, value)

cdef inline void set_pd_prune_xid(byte* page, uint32 value) noexcept nogil:
    put32(page, pd_prune_xid_at, value)

cdef inline void set_pd_lsn(byte* page, uint64 lsn) noexcept nogil:
    put32(page, 0, <uint32>(lsn >> 32))
    put32(page, 4, <uint32>lsn)

cdef inline uint32 item_id_at(uint32 offset) noexcept nogil:
    return 20 + 4 * offset

cdef inline uint32 lp_off(uint32 lp) noexcept nogil:
    return lp & 0x7FFF

cdef inline uint32 lp_flags(uint32 lp) noexcept nogil:
    return lp >> 15 & 3

cdef inline uint32 lp_len(uint32 lp) noexcept nogil:
    return lp >> 17

cdef inline bint lp_in_use(uint32 lp) noexcept nogil:
    return lp >> 15 != 0

cdef inline uint32 line_pointer(uint32 off, uint32 flags, uint32 length) noexcept nogil:
    return off & 0x7FFF | (flags & 3) << 15 | (length & 0x7FFF) << 17

cdef inline uint32 maxalign(uint32 length) noexcept nogil:
    return length + 7 & ~7

cdef inline void put_block(byte* p, Py_ssize_t at, uint32 block) noexcept nogil:
    put16(p, at, block >> 16)
    put16(p, at + 2, block & 0xFFFF)

cdef inline uint32 block_at(const byte* p, Py_ssize_t at) noexcept nogil:
    return u16(p, at) << 16 | u16(p, at + 2)
