# The accessors of buffer.py for compiled kernels: inline, unchecked, little-endian.
# A kernel's own .pxd cimports what it uses; its .py imports the same names from buffer.py
# under `if not cython.compiled`.

from cpython.bytearray cimport PyByteArray_FromStringAndSize
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memmove, memset

ctypedef unsigned char byte
ctypedef unsigned short uint16
ctypedef unsigned int uint32
ctypedef unsigned long long uint64

cdef extern from "buffer.h" nogil:
    uint32 u16 "walstream_u16" (const byte* p, Py_ssize_t at) noexcept
    uint32 u32 "walstream_u32" (const byte* p, Py_ssize_t at) noexcept
    uint64 u64 "walstream_u64" (const byte* p, Py_ssize_t at) noexcept
    void put16 "walstream_put16" (byte* p, Py_ssize_t at, uint32 value) noexcept
    void put32 "walstream_put32" (byte* p, Py_ssize_t at, uint32 value) noexcept
    void put64 "walstream_put64" (byte* p, Py_ssize_t at, uint64 value) noexcept

# Pointers into buffers of Python, without the code that a memoryview type costs every module.
cdef extern from "buffer.h":
    const byte* bytes_of "walstream_bytes_of" (object data) except NULL
    byte* writable_of "walstream_writable_of" (object data) except NULL
    const int* ints_of "walstream_ints_of" (object data) except NULL

cdef inline uint32 u8(const byte* p, Py_ssize_t at) noexcept nogil:
    return p[at]

cdef inline uint32 be32(const byte* p, Py_ssize_t at) noexcept nogil:
    return ((<uint32>p[at] << 24) | (<uint32>p[at + 1] << 16) | (<uint32>p[at + 2] << 8)
            | p[at + 3])

cdef inline uint64 be64(const byte* p, Py_ssize_t at) noexcept nogil:
    return (<uint64>be32(p, at) << 32) | be32(p, at + 4)

cdef inline double f64(const byte* p, Py_ssize_t at) noexcept nogil:
    cdef double value
    memmove(&value, p + at, 8)
    return value

cdef inline void put_f64(byte* p, Py_ssize_t at, double value) noexcept nogil:
    memmove(p + at, &value, 8)

cdef inline void put8(byte* p, Py_ssize_t at, uint32 value) noexcept nogil:
    p[at] = <byte>value

cdef inline void put_be32(byte* p, Py_ssize_t at, uint32 value) noexcept nogil:
    p[at] = <byte>(value >> 24)
    p[at + 1] = <byte>(value >> 16)
    p[at + 2] = <byte>(value >> 8)
    p[at + 3] = <byte>value

cdef inline void put_be64(byte* p, Py_ssize_t at, uint64 value) noexcept nogil:
    put_be32(p, at, <uint32>(value >> 32))
    put_be32(p, at + 4, <uint32>value)

cdef inline bytes cut(const byte* p, Py_ssize_t at, Py_ssize_t length):
    return PyBytes_FromStringAndSize(<const char*>p + at, length)

cdef inline bytearray unset(Py_ssize_t size):
    return PyByteArray_FromStringAndSize(NULL, size)

cdef inline void move(byte* target, Py_ssize_t target_at, const byte* source,
                      Py_ssize_t source_at, Py_ssize_t length) noexcept nogil:
    memmove(target + target_at, source + source_at, <size_t>length)

cdef inline void fill(byte* p, Py_ssize_t at, Py_ssize_t length, int value) noexcept nogil:
    memset(p + at, value, <size_t>length)

cdef inline bint equal(const byte* a, Py_ssize_t a_at, const byte* b, Py_ssize_t b_at,
                       Py_ssize_t length) noexcept nogil:
    return memcmp(a + a_at, b + b_at, <size_t>length) == 0

cdef inline byte* resize(byte* p, Py_ssize_t size) noexcept nogil:
    return <byte*>realloc(p, <size_t>size)

cdef inline void release(byte* p) noexcept nogil:
    free(p)
