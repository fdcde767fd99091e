from walstream.redo.rules.target cimport Target

cdef int hash_redo(Target t) except -1
