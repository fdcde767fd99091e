cimport cython
from walstream.wal.buffer cimport (
    be32, be64, byte, equal, put32, put64, release, resize, u8, u32, u64, uint32, uint64
)

ctypedef long long int64

cdef Py_ssize_t BLOCK_LENGTH, BLOCK_AT, ENTRY_LENGTH, RECORD, CHAIN
cdef int INIT, STEPS_BEFORE_SEEK

@cython.final
cdef class Chains:
    cdef readonly Py_ssize_t count
    cdef readonly Py_ssize_t records
    cdef readonly uint64 wal_bytes
    cdef byte* c
    cdef byte* r
    cdef Py_ssize_t chain_room
    cdef Py_ssize_t record_room
    cdef uint64 floor
    cdef uint64 upto
    cdef uint64 next_lsn
    cdef bint makes

    cpdef Py_ssize_t first(self, Py_ssize_t chain) noexcept
    cpdef Py_ssize_t length(self, Py_ssize_t chain) noexcept
    cpdef uint64 next_of(self, Py_ssize_t chain) noexcept
    cpdef uint32 block(self, Py_ssize_t chain) noexcept
    cpdef bint makes_page(self, Py_ssize_t chain) noexcept
    cpdef uint64 start_lsn(self, Py_ssize_t record) noexcept
    cpdef uint64 end_lsn(self, Py_ssize_t record) noexcept

    @cython.locals(room=Py_ssize_t, grown=cython.p_uchar)
    cpdef int begin(self, uint32 block, uint64 floor, uint64 upto) except -1

    @cython.locals(p="const byte*", length=Py_ssize_t, at=Py_ssize_t, end_lsn=uint64)
    cpdef int add(self, uint64 first_lsn, bytes postings) except -1

    @cython.locals(room=Py_ssize_t, grown=cython.p_uchar)
    cdef int put_record(self, uint64 start_lsn, uint64 end_lsn) except -1

    @cython.locals(at=Py_ssize_t, record=Py_ssize_t)
    cpdef int end(self) except -1

    @cython.locals(p="const byte*", q="const byte*", first_lsn=uint64, key=bytes, value=bytes,
                   lists=list)
    cpdef Py_ssize_t find(self, object iterator, bytes prefix, uint64 floor, object upto,
                          bint look_on) except -1

    @cython.locals(p="const byte*", q="const byte*")
    cdef bint is_of(self, bytes key, bytes prefix) noexcept

    @cython.locals(p="const byte*", length=Py_ssize_t, at=Py_ssize_t, end_lsn=uint64)
    cdef bint stops(self, uint64 first_lsn, bytes postings) noexcept

    @cython.locals(p="const byte*", key=bytes, at_block=int64, done=Py_ssize_t, block=uint32,
                   floor=uint64, first_lsn=uint64)
    cpdef Py_ssize_t scan(self, object iterator, bytes prefix, object blocks, object floors,
                          uint64 upto, uint64 limit) except -1

    @cython.locals(key=bytes)
    cdef bytes key_of(self, object iterator, bytes prefix)
    @cython.locals(p="const byte*")
    cdef int64 block_at(self, bytes key) noexcept
    cdef bytes go_to(self, object iterator, bytes prefix, object block, bytes key)
    @cython.locals(steps=int)
    cdef bytes skip_old(self, object iterator, bytes prefix, object block, bytes key)
    @cython.locals(p="const byte*", q="const byte*", first_lsn=uint64, value=bytes)
    cdef int list_before_floor(self, object iterator, bytes key, int64 block) except -1
