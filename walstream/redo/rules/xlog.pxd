from walstream.redo.rules.target cimport Target

cdef int xlog_redo(Target t) except -1
