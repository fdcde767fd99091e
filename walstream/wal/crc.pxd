# Every kernel that cimports crc32c includes crc32c.h and calls walstream_crc_prepare() at import.

from walstream.wal.buffer cimport byte, bytes_of, uint32

cdef extern from "crc32c.h" nogil:
    int walstream_crc_prepare() noexcept
    uint32 walstream_crc32c(uint32 value, const byte* p, Py_ssize_t length) noexcept
    uint32 walstream_crc32c_record(const byte* p, Py_ssize_t total) noexcept
    uint32 walstream_crc32c_tables(uint32 value, const byte* p, Py_ssize_t length) noexcept

cdef inline uint32 crc32c_of(uint32 value, const byte* p, Py_ssize_t at,
                             Py_ssize_t length) noexcept nogil:
    return walstream_crc32c(value, p + at, length)

cdef inline uint32 record_crc(const byte* p, Py_ssize_t at, Py_ssize_t total) noexcept nogil:
    return walstream_crc32c_record(p + at, total)

cdef inline uint32 crc32c_by_tables(uint32 value, const byte* p, Py_ssize_t at,
                                    Py_ssize_t length) noexcept nogil:
    return walstream_crc32c_tables(value, p + at, length)

cdef inline int prepare_crc() noexcept nogil:
    return walstream_crc_prepare()

cpdef uint32 crc32c(object data, uint32 value=*)
cpdef uint32 crc32c_tables(object data, uint32 value=*)
