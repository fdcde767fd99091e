from walstream.redo.rules.page cimport add_item, page_init
from walstream.redo.rules.target cimport Target
from walstream.wal.buffer cimport put16

cdef int sequence_redo(Target t) except -1
