cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from libc.string cimport memcpy
from walstream.redo.rules.messages cimport (
    APPLY, APPLY_LENGTH, BEGIN, BEGIN_LENGTH, ENOUGH_REPLIES, GET, PING_KIND, PING_LENGTH, PUSH,
    PUSH_LENGTH, SizeOfEndLsn, SizeOfHead, SizeOfTag)
from walstream.redo.rules.target cimport Target
from walstream.rmgr.brin.redo cimport brin_redo
from walstream.rmgr.btree.redo cimport btree_redo
from walstream.rmgr.generic.redo cimport generic_redo
from walstream.rmgr.gin.redo cimport gin_redo
from walstream.rmgr.gist.redo cimport gist_after_image, gist_redo
from walstream.rmgr.hash.redo cimport hash_redo
from walstream.rmgr.heap.redo cimport heap_redo
from walstream.rmgr.heap.visibilitymap cimport visibility_redo
from walstream.rmgr.heap2.redo cimport heap2_redo
from walstream.rmgr.sequence.redo cimport sequence_redo
from walstream.rmgr.spgist.redo cimport spgist_redo
from walstream.rmgr.xlog.redo cimport xlog_redo
from walstream.wal.buffer cimport be32, be64, byte, bytes_of, fill, move, u8, uint32, uint64
from walstream.wal.bufpage cimport BLCKSZ, pd_lower, pd_lsn, pd_special, pd_upper, set_pd_lsn
from walstream.wal.image cimport restore_into
from walstream.wal.layout cimport (
    BKPBLOCK_HAS_IMAGE, BKPBLOCK_WILL_INIT, RM_BRIN_ID, RM_BTREE_ID, RM_GENERIC_ID, RM_GIN_ID,
    RM_GIST_ID, RM_HASH_ID, RM_HEAP2_ID, RM_HEAP_ID, RM_SEQ_ID, RM_SPGIST_ID, RM_XLOG_ID,
    SizeOfXLogRecord, VISIBILITYMAP_FORKNUM, XLR_RMGR_INFO_MASK)
from walstream.wal.opcodes cimport XLOG_HEAP2_VISIBLE
from walstream.wal.record cimport RecordReader

cdef inline int append_page(bytearray replies, const byte* page) except -1:
    cdef Py_ssize_t size = PyByteArray_GET_SIZE(replies)
    PyByteArray_Resize(replies, size + BLCKSZ)
    memcpy(PyByteArray_AS_STRING(replies) + size, page, BLCKSZ)
    return 0

cdef bytes ZEROS

@cython.final
cdef class Engine:
    cdef readonly Target target
    cdef public bytearray replies
    cdef readonly Py_ssize_t consumed
    cdef byte* page
    cdef uint32 spc
    cdef uint32 db
    cdef uint32 rel
    cdef uint32 fork
    cdef uint32 block
    cdef int state
    cdef int applying
    cdef uint64 end_lsn

    @cython.locals(at=Py_ssize_t, kind=uint32, size=Py_ssize_t, record_at=Py_ssize_t,
                   end_lsn=uint64)
    cdef Py_ssize_t run(self, const byte* p, Py_ssize_t end) except -1

    cdef int check_length(self, uint32 kind, Py_ssize_t size) except -1
    cdef int read_tag(self, const byte* p, Py_ssize_t at) except -1
    cdef int check_tag(self, const byte* p, Py_ssize_t at) except -1
    cdef int take_page(self, const byte* p, Py_ssize_t at) except -1

    @cython.locals(r=RecordReader, t=Target, i=int, n=int)
    cdef int apply_record(self, const byte* p, Py_ssize_t at, Py_ssize_t length, uint64 end_lsn) except -1

    @cython.locals(rmgr=uint32)
    cdef int dispatch(self, Target t) except -1

    cdef int check_page(self) except -1
    cdef int apply_implicit(self, Target t) except -1

    cdef int finish(self) except -1
