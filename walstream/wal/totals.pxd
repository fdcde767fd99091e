cimport cython
from walstream.wal.layout cimport MAX_XLINFO_TYPES, RM_XACT_ID
from walstream.wal.opcodes cimport XLOG_XACT_OPMASK

ctypedef unsigned long long uint64

@cython.final
cdef class RecordTotals:
    cdef readonly object counts
    cdef readonly object record_bytes
    cdef readonly object fpi_bytes
    cdef uint64[::1] count
    cdef uint64[::1] record
    cdef uint64[::1] fpi
    cdef readonly uint64 records
    cdef readonly uint64 first_lsn
    cdef readonly uint64 last_lsn
    cdef readonly uint64 end_lsn

    cdef void add_span(self, uint64 first_lsn, uint64 last_lsn, uint64 end_lsn,
                       uint64 records) noexcept nogil
    @cython.locals(i=Py_ssize_t)
    cpdef add_totals(self, RecordTotals other)
    @cython.locals(row=Py_ssize_t, op=int, place=Py_ssize_t)
    cpdef sum_up(
        self, Py_ssize_t count, unsigned char[::1] rmgr, unsigned char[::1] info,
        unsigned int[::1] total_length, unsigned int[::1] fpi_length)
