
from walstream.redo.rules.page cimport add_item, page_init
from walstream.redo.rules.target cimport Target
from walstream.rmgr.heap.layout cimport SEQ_MAGIC, SizeOfSequenceMagic
from walstream.wal.buffer cimport put32
from walstream.wal.bufpage cimport BLCKSZ, FirstOffsetNumber, pd_special
from walstream.wal.layout cimport SizeOfRelFileLocator
from walstream.wal.opcodes cimport XLOG_SEQ_LOG
cdef int sequence_redo(Target t) except -1
