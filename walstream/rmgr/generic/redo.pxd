cimport cython
from walstream.redo.rules.page cimport check_pointers
from walstream.redo.rules.target cimport Target
from walstream.wal.buffer cimport fill, move, u16, uint32
from walstream.wal.bufpage cimport BLCKSZ, pd_lower, pd_upper

@cython.locals(at=Py_ssize_t, end=Py_ssize_t, offset=uint32, length=uint32)
cdef int generic_redo(Target t) except -1
