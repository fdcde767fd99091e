cimport cython
from walstream.redo.rules.index_layout cimport INDEX_SIZE_MASK, SizeOfIndexTupleData, t_info
from walstream.redo.rules.page cimport add_item, max_offset
from walstream.redo.rules.target cimport Target
from walstream.wal.buffer cimport byte, u16, uint32
from walstream.wal.bufpage cimport maxalign

@cython.locals(length=Py_ssize_t)
cdef Py_ssize_t tuple_length(const byte* p, Py_ssize_t at, Py_ssize_t available) except -1

@cython.locals(length=Py_ssize_t)
cdef Py_ssize_t aligned_length(const byte* p, Py_ssize_t at, Py_ssize_t available) except -1

@cython.locals(end=Py_ssize_t, offset=uint32, found="long long", length=Py_ssize_t)
cdef int append_tuples(Target t, Py_ssize_t at, uint32 count) except -1
