from walstream.redo.rules.target cimport Target

cdef int brin_redo(Target t) except -1
