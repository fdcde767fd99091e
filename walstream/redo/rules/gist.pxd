from walstream.redo.rules.target cimport Target

cdef int gist_redo(Target t) except -1
