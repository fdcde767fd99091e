cimport cython
from walstream.redo.rules.index_tuple cimport aligned_length
from walstream.redo.rules.page cimport add_item, expect_special, index_multi_delete, page_init
from walstream.redo.rules.target cimport Target
from walstream.wal.buffer cimport (
    f64, fill, put8, put16, put32, put_f64, u8, u16, u32, uint32)

cdef uint32 NO_BLOCK

@cython.locals(op=uint32)
cdef int hash_redo(Target t) except -1

cdef int init_page(Target t, uint32 previous, uint32 bucket, uint32 flags) except -1
cdef int init_bitmap_page(Target t, uint32 size) except -1

@cython.locals(n=uint32, one=uint32)
cdef uint32 ceil_log2(uint32 value) noexcept

@cython.locals(group=uint32)
cdef uint32 spare_index(uint32 buckets) noexcept

@cython.locals(half=uint32, one=uint32)
cdef uint32 total_buckets(uint32 phase) noexcept

@cython.locals(tuples=double, fill_factor=uint32, wanted=double, buckets=uint32, phase=uint32,
               high_mask=uint32, one=uint32)
cdef int init_meta(Target t) except -1

@cython.locals(maps=uint32)
cdef int add_bitmap_block(Target t, uint32 block) except -1

cdef int init_bitmap(Target t) except -1
cdef int insert(Target t) except -1

@cython.locals(bit=uint32)
cdef int bitmap_bit(Target t) except -1

@cython.locals(bit=uint32, at=uint32, point=uint32)
cdef int add_overflow(Target t) except -1

@cython.locals(bucket=uint32, at=Py_ssize_t, flags=uint32, point=uint32)
cdef int split_allocate(Target t) except -1

cdef int split_complete(Target t) except -1

@cython.locals(at=Py_ssize_t, end=Py_ssize_t, i=Py_ssize_t, size=Py_ssize_t)
cdef int add_tuples(Target t, Py_ssize_t count) except -1

cdef int delete_items(Target t, Py_ssize_t at, Py_ssize_t length) except -1
cdef int move_contents(Target t) except -1

@cython.locals(count=uint32, same=bint, bit=uint32, at=uint32)
cdef int squeeze(Target t) except -1

cdef int delete(Target t) except -1
cdef int split_cleanup(Target t) except -1
cdef int update_meta(Target t) except -1

@cython.locals(count=Py_ssize_t)
cdef int vacuum_one_page(Target t) except -1
