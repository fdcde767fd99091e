cimport cython
from walstream.index.chains cimport Chains
from walstream.redo.protocol cimport put_tagged
from walstream.redo.rules.messages cimport (
    APPLY, APPLY_LENGTH, BEGIN, BEGIN_LENGTH, GET, PUSH, PUSH_LENGTH)
from walstream.segments.stored_records cimport StoredRecords
from walstream.wal.buffer cimport (
    byte, bytes_of, cut, move, put8, put32, put64, put_be32, release, resize, u32, u64, uint32,
    uint64, unset, writable_of)
from walstream.wal.bufpage cimport BLCKSZ

cdef Py_ssize_t PAGE, TAGGED, APPLY_HEAD

@cython.final
cdef class Requests:
    cdef readonly Py_ssize_t count
    cdef Py_ssize_t room
    cdef StoredRecords records
    cdef list bases
    cdef byte* pages

    @cython.locals(room=Py_ssize_t, grown=cython.p_uchar, spc=uint32, db=uint32, rel=uint32,
                   fork=uint32, block=uint32, at=Py_ssize_t, first=Py_ssize_t, last=Py_ssize_t,
                   record=Py_ssize_t)
    cpdef Py_ssize_t add(self, object tag, Chains chains, Py_ssize_t chain, bytes base,
                         Py_ssize_t base_at) except -1

    cpdef clear(self)
    cpdef Py_ssize_t memory(self)
    cpdef read(self, archive)
    cdef Py_ssize_t first(self, Py_ssize_t page) noexcept
    cdef Py_ssize_t last(self, Py_ssize_t page) noexcept
    @cython.locals(size=Py_ssize_t, record=Py_ssize_t, length=Py_ssize_t)
    cpdef Py_ssize_t size(self, Py_ssize_t page) except -1
    cpdef bint is_complete(self, Py_ssize_t page) except -1

    @cython.locals(at=Py_ssize_t, base=bytes, base_at=Py_ssize_t, record=Py_ssize_t)
    cpdef request(self, Py_ssize_t page)

    @cython.locals(size=Py_ssize_t, p="byte*", q="byte*", at=Py_ssize_t, number=Py_ssize_t,
                   count=Py_ssize_t, page=Py_ssize_t, end_lsns=bytearray, data=bytearray)
    cpdef encode(self, pages)

    @cython.locals(here=Py_ssize_t, spc=uint32, db=uint32, rel=uint32, fork=uint32, block=uint32,
                   record=Py_ssize_t, length=Py_ssize_t, end_lsn=uint64, base=bytes,
                   b="const byte*")
    cdef Py_ssize_t put_request(self, byte* p, Py_ssize_t at, Py_ssize_t page) except -1
