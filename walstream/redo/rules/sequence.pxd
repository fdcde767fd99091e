from walstream.redo.rules.target cimport Target

cdef int sequence_redo(Target t) except -1
