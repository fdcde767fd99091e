cimport cython

cdef long long ANY

@cython.final
cdef class RecordFilter:
    cdef bint any_rmgr
    cdef unsigned char[::1] wanted
    cdef long long xid
    cdef bint any_relation
    cdef unsigned int spc
    cdef unsigned int db
    cdef unsigned int rel
    cdef long long block
    cdef int fork
    cdef bint fullpage
    cdef bint by_block
    cdef readonly bint everything

    @cython.locals(found=Py_ssize_t, row=Py_ssize_t, first=Py_ssize_t, last=Py_ssize_t,
                   i=Py_ssize_t, passed=bint)
    cdef Py_ssize_t fill(
        self, unsigned int[::1] rows, Py_ssize_t count, unsigned long long start,
        unsigned long long[::1] start_lsn, unsigned int[::1] xid, unsigned char[::1] rmgr,
        unsigned int[::1] block_begin, unsigned char[::1] blocks, unsigned int[::1] spc,
        unsigned int[::1] db, unsigned int[::1] rel, unsigned char[::1] fork,
        unsigned int[::1] block, unsigned char[::1] image)
