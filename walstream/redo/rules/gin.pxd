from walstream.redo.rules.target cimport Target

cdef int gin_redo(Target t) except -1
