
from walstream.redo.rules.target cimport Target
from walstream.wal.opcodes cimport XLOG_FPI, XLOG_FPI_FOR_HINT
cdef int xlog_redo(Target t) except -1
