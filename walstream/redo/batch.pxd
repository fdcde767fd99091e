cimport cython
from walstream.wal.buffer cimport byte, bytes_of, u16, u64, uint32, uint64, unset
from walstream.wal.bufpage cimport (
    BLCKSZ, PG_PAGE_LAYOUT_VERSION, SizeOfPageHeaderData, pd_flags_at, pd_lower_at,
    pd_pagesize_version_at, pd_special_at, pd_upper_at)

cdef uint32 VALID_FLAGS

@cython.locals(p="const byte*", q="const byte*", i=Py_ssize_t)
cpdef list doubtful_pages(bytearray pages, Py_ssize_t count, bytes end_lsns)

@cython.locals(lower=uint32, upper=uint32, special=uint32)
cdef bint is_plain(const byte* p, Py_ssize_t at, uint64 end_lsn) noexcept

@cython.locals(word=uint64)
cdef uint64 lsn_of(const byte* p, Py_ssize_t at) noexcept
