from walstream.redo.rules.target cimport Target

cdef int heap_redo(Target t) except -1
