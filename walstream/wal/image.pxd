cimport cython
from walstream.wal.buffer cimport byte, bytes_of, fill, move, u8, uint32
from walstream.wal.bufpage cimport BLCKSZ
from walstream.wal.layout cimport (
    COMPRESSION_LZ4, COMPRESSION_NONE, COMPRESSION_PGLZ, COMPRESSION_ZSTD)

# Decompresses pglz from p[at:at + length] into exactly `raw_length` bytes at target[target_at:].
# Returns 0, or -1 where the bytes are not that.
@cython.locals(end=Py_ssize_t, to=Py_ssize_t, to_end=Py_ssize_t, control=uint32, bit=int,
               low=uint32, size=Py_ssize_t, distance=Py_ssize_t, i=Py_ssize_t)
cdef int pglz_decompress(const byte* p, Py_ssize_t at, Py_ssize_t length, byte* target,
                         Py_ssize_t target_at, Py_ssize_t raw_length) noexcept nogil

# Writes the 8192 bytes of the page that an image shows to page[page_at:]. Needs the GIL, for lz4
# and zstd are Python packages.
@cython.locals(raw_length=Py_ssize_t, first=Py_ssize_t)
cdef int restore_into(const byte* p, Py_ssize_t at, Py_ssize_t length, Py_ssize_t hole_offset,
                      Py_ssize_t hole_length, int compression, byte* page,
                      Py_ssize_t page_at) except -1

cpdef bytes pglz_decompress_bytes(object data, Py_ssize_t raw_length)
