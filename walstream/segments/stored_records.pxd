cimport cython
from libc.errno cimport EINTR, errno
from libc.stdlib cimport qsort
from posix.unistd cimport pread

from walstream.wal.buffer cimport (
    byte, bytes_of, move, put32, put64, release, resize, u32, u64, uint32, uint64
)
from walstream.wal.crc cimport prepare_crc, record_crc
from walstream.wal.layout cimport XLOG_BLCKSZ, SizeOfXLogRecord, SizeOfXLogShortPHD, xl_crc

cdef Py_ssize_t WINDOW, GAP, LONG, ITEM

cdef inline Py_ssize_t read_at(int descriptor, byte* p, Py_ssize_t length,
                               Py_ssize_t offset) noexcept nogil:
    cdef Py_ssize_t done = 0
    cdef Py_ssize_t got
    while done < length:
        got = pread(descriptor, p + done, <size_t>(length - done), offset + done)
        if got < 0:
            if errno == EINTR:
                continue
            return -1
        if got == 0:
            break
        done += got
    return done

cdef inline int compare_places(const void* a, const void* b) noexcept nogil:
    cdef uint64 x = (<const uint64*>a)[0]
    cdef uint64 y = (<const uint64*>b)[0]
    if x == y:
        x = (<const uint64*>a)[1]
        y = (<const uint64*>b)[1]
    return (x > y) - (x < y)

cdef inline void sort_places(byte* p, Py_ssize_t count) noexcept nogil:
    qsort(p, <size_t>count, 16, compare_places)

@cython.final
cdef class StoredRecords:
    cdef readonly Py_ssize_t count
    cdef Py_ssize_t room
    cdef readonly Py_ssize_t size
    cdef Py_ssize_t data_room
    cdef Py_ssize_t needed
    cdef Py_ssize_t order_room
    cdef Py_ssize_t window_room
    cdef uint64 segment_size
    cdef byte* items
    cdef byte* order
    cdef byte* data
    cdef byte* window

    cpdef clear(self)
    cpdef Py_ssize_t memory(self)

    @cython.locals(room=Py_ssize_t, at=Py_ssize_t, grown=cython.p_uchar)
    cpdef Py_ssize_t want(self, uint64 start_lsn, uint64 end_lsn) except -1

    cpdef uint64 start_lsn(self, Py_ssize_t record) noexcept nogil
    cpdef uint64 end_lsn(self, Py_ssize_t record) noexcept nogil
    cpdef Py_ssize_t at(self, Py_ssize_t record) noexcept nogil
    cpdef Py_ssize_t length(self, Py_ssize_t record) noexcept nogil
    cdef Py_ssize_t nth(self, Py_ssize_t place) noexcept nogil

    @cython.locals(size=uint64, first=Py_ssize_t, last=Py_ssize_t, start_lsn=uint64, begin=uint64,
                   descriptor=int)
    cpdef read(self, archive)

    @cython.locals(i=Py_ssize_t, place=Py_ssize_t, room=uint64, length=uint64, longest=uint64,
                   window=Py_ssize_t, grown=cython.p_uchar)
    cdef int prepare(self) except -1
    @cython.locals(grown=cython.p_uchar)
    cdef int make_room(self, Py_ssize_t size) except -1

    @cython.locals(i=Py_ssize_t, before=Py_ssize_t)
    cdef bint again(self, Py_ssize_t place) noexcept nogil
    @cython.locals(end_lsn=uint64)
    cdef bint is_long(self, Py_ssize_t record, uint64 segment_end) noexcept nogil

    @cython.locals(end=uint64, place=Py_ssize_t, i=Py_ssize_t, start_lsn=uint64, stop=uint64,
                   after=Py_ssize_t, got=Py_ssize_t)
    cdef void read_segment(self, int descriptor, uint64 begin, Py_ssize_t first,
                           Py_ssize_t last) noexcept nogil

    @cython.locals(i=Py_ssize_t, start_lsn=uint64, source=Py_ssize_t, stop=Py_ssize_t,
                   total=Py_ssize_t, target=Py_ssize_t, left=Py_ssize_t, room=Py_ssize_t,
                   piece=Py_ssize_t)
    cdef void take(self, Py_ssize_t place, uint64 window_lsn, Py_ssize_t got) noexcept nogil

    cdef void share(self, Py_ssize_t record, Py_ssize_t other) noexcept nogil

    @cython.locals(i=Py_ssize_t, place=Py_ssize_t, size=Py_ssize_t,
                   p="const byte*", record=bytes)
    cdef int read_long(self, archive, uint64 begin, Py_ssize_t first, Py_ssize_t last) except -1
