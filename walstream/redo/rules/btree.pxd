from walstream.redo.rules.target cimport Target

cdef int btree_redo(Target t) except -1
