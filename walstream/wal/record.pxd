cimport cython
from walstream.wal.buffer cimport byte, bytes_of, u8, u16, u32, u64, uint32, uint64

cdef int SHORT_HEADER, OUT_OF_ORDER_BLOCK, DATA_FLAG_WITHOUT_DATA, DATA_WITHOUT_FLAG, BAD_HOLE, UNEXPECTED_HOLE
cdef int COMPRESSED_FULL_LENGTH, UNCOMPRESSED_SHORT, NO_PREVIOUS_REL, INVALID_BLOCK_ID, INVALID_LENGTH, LENGTH_MISMATCH

@cython.final
cdef class RecordReader:
    cdef public int version
    cdef readonly uint32 total_length
    cdef readonly uint32 xid
    cdef readonly uint64 prev
    cdef readonly uint32 info
    cdef readonly uint32 rmgr
    cdef readonly uint32 crc
    cdef readonly uint32 origin
    cdef readonly uint32 toplevel_xid
    cdef readonly Py_ssize_t main_at
    cdef readonly Py_ssize_t main_length
    cdef readonly int block_count
    cdef readonly int error
    cdef readonly uint64 error_a
    cdef readonly uint64 error_b
    cdef readonly uint64 error_c
    cdef int block_id[33]
    cdef uint32 block_flags[33]
    cdef uint32 block_fork[33]
    cdef uint32 block_spc[33]
    cdef uint32 block_db[33]
    cdef uint32 block_rel[33]
    cdef uint32 block_number[33]
    cdef Py_ssize_t data_at[33]
    cdef Py_ssize_t data_length[33]
    cdef Py_ssize_t image_at[33]
    cdef Py_ssize_t image_length[33]
    cdef uint32 hole_offset[33]
    cdef uint32 hole_length[33]
    cdef uint32 image_info[33]
    cdef uint32 image_compression[33]
    cdef bint image_apply[33]

    cdef int fail(self, int code, uint64 a, uint64 b, uint64 c) noexcept nogil

    @cython.locals(end=Py_ssize_t, cursor=Py_ssize_t, payload=uint64, count=int, highest=int,
                   block_id=uint32, flags=uint32, length=uint32, image_length=uint32,
                   hole_offset=uint32, hole_length=uint32, image_info=uint32, compressed=bint,
                   has_hole=bint, has_rel=bint, spc=uint32, db=uint32, rel=uint32, i=int,
                   at_data=Py_ssize_t)
    cdef int read(self, const byte* p, Py_ssize_t at, Py_ssize_t length_available) noexcept nogil

    @cython.locals(i=int)
    cdef int find_block(self, int block_id) noexcept nogil

    @cython.locals(p="const byte*")
    cpdef int read_bytes(self, object data) except -2
    cpdef tuple block(self, int i)
