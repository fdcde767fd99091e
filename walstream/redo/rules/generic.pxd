from walstream.redo.rules.target cimport Target

cdef int generic_redo(Target t) except -1
