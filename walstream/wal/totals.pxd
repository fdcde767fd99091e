cimport cython

@cython.final
cdef class RecordTotals:
    cdef readonly object counts
    cdef readonly object record_bytes
    cdef readonly object fpi_bytes
    cdef public unsigned long long end_lsn

    @cython.locals(i=Py_ssize_t, row=Py_ssize_t, op=int, place=Py_ssize_t)
    cpdef sum_up(
        self, unsigned int[::1] rows, unsigned char[::1] rmgr, unsigned char[::1] info,
        unsigned int[::1] total_length, unsigned int[::1] fpi_length,
        unsigned long long[::1] counts, unsigned long long[::1] record_bytes,
        unsigned long long[::1] fpi_bytes)
