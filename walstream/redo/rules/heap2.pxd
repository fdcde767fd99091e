from walstream.redo.rules.target cimport Target

cdef int heap2_redo(Target t) except -1
