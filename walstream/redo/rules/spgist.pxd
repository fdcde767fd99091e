from walstream.redo.rules.target cimport Target

cdef int spgist_redo(Target t) except -1
