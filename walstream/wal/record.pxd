cimport cython
from walstream.wal.buffer cimport byte, bytes_of, u8, u16, u32, u64, uint32, uint64
from walstream.wal.bufpage cimport BLCKSZ
from walstream.wal.formats cimport FORMATS, row_of
from walstream.wal.layout cimport (
    BKPBLOCK_FLAG_MASK, BKPBLOCK_FORK_MASK, BKPBLOCK_HAS_DATA, BKPBLOCK_HAS_IMAGE,
    BKPBLOCK_SAME_REL, BKPBLOCK_WILL_INIT, BKPIMAGE_HAS_HOLE, COMPRESSION_LZ4, COMPRESSION_NONE,
    COMPRESSION_PGLZ, COMPRESSION_ZSTD, SizeOfBlockNumber, SizeOfRelFileLocator, SizeOfXLogRecord,
    SizeOfXLogRecordBlockCompressHeader, SizeOfXLogRecordBlockHeader,
    SizeOfXLogRecordBlockImageHeader, xl_crc, xl_info, xl_prev, xl_rmid, xl_tot_len, xl_xid,
    XLR_BLOCK_ID_DATA_LONG, XLR_BLOCK_ID_DATA_SHORT, XLR_BLOCK_ID_ORIGIN,
    XLR_BLOCK_ID_TOPLEVEL_XID, XLR_MAX_BLOCK_ID)

cdef int SHORT_HEADER, OUT_OF_ORDER_BLOCK, DATA_FLAG_WITHOUT_DATA, DATA_WITHOUT_FLAG, BAD_HOLE
cdef int UNEXPECTED_HOLE, COMPRESSED_FULL_LENGTH, UNCOMPRESSED_SHORT, NO_PREVIOUS_REL
cdef int INVALID_BLOCK_ID, INVALID_LENGTH, LENGTH_MISMATCH

@cython.final
cdef class RecordReader:
    cdef public int version
    cdef int format_version
    cdef uint32 apply_bit
    cdef uint32 pglz_bit
    cdef uint32 lz4_bit
    cdef uint32 zstd_bit
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
    cdef int block_id[XLR_MAX_BLOCK_ID + 1]
    cdef uint32 block_flags[XLR_MAX_BLOCK_ID + 1]
    cdef uint32 block_fork[XLR_MAX_BLOCK_ID + 1]
    cdef uint32 block_spc[XLR_MAX_BLOCK_ID + 1]
    cdef uint32 block_db[XLR_MAX_BLOCK_ID + 1]
    cdef uint32 block_rel[XLR_MAX_BLOCK_ID + 1]
    cdef uint32 block_number[XLR_MAX_BLOCK_ID + 1]
    cdef Py_ssize_t data_at[XLR_MAX_BLOCK_ID + 1]
    cdef Py_ssize_t data_length[XLR_MAX_BLOCK_ID + 1]
    cdef Py_ssize_t image_at[XLR_MAX_BLOCK_ID + 1]
    cdef Py_ssize_t image_length[XLR_MAX_BLOCK_ID + 1]
    cdef uint32 hole_offset[XLR_MAX_BLOCK_ID + 1]
    cdef uint32 hole_length[XLR_MAX_BLOCK_ID + 1]
    cdef uint32 image_info[XLR_MAX_BLOCK_ID + 1]
    cdef uint32 image_compression[XLR_MAX_BLOCK_ID + 1]
    cdef bint image_apply[XLR_MAX_BLOCK_ID + 1]

    @cython.locals(row=int)
    cdef void take_format(self) noexcept nogil
    cdef int fail(self, int code, uint64 a, uint64 b, uint64 c) noexcept nogil

    @cython.locals(end=Py_ssize_t, cursor=Py_ssize_t, payload=uint64, count=int, highest=int,
                   block_id=uint32, flags=uint32, length=uint32, image_length=uint32,
                   hole_offset=uint32, hole_length=uint32, image_info=uint32, method=uint32, compressed=bint,
                   has_hole=bint, has_rel=bint, spc=uint32, db=uint32, rel=uint32, i=int,
                   at_data=Py_ssize_t)
    cdef int read(self, const byte* p, Py_ssize_t at, Py_ssize_t length_available) noexcept nogil

    @cython.locals(i=int)
    cdef int find_block(self, int block_id) noexcept nogil

    @cython.locals(p="const byte*")
    cpdef int read_bytes(self, object data) except -2
    cpdef tuple block(self, int i)
