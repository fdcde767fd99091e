cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from libc.string cimport memcpy
from walstream.redo.rules.brin cimport brin_redo
from walstream.redo.rules.btree cimport btree_redo
from walstream.redo.rules.generic cimport generic_redo
from walstream.redo.rules.gin cimport gin_redo
from walstream.redo.rules.gist cimport gist_after_image, gist_redo
from walstream.redo.rules.hash cimport hash_redo
from walstream.redo.rules.heap cimport heap_redo
from walstream.redo.rules.heap2 cimport heap2_redo
from walstream.redo.rules.page cimport page_lsn, set_page_lsn
from walstream.redo.rules.sequence cimport sequence_redo
from walstream.redo.rules.spgist cimport spgist_redo
from walstream.redo.rules.target cimport Target
from walstream.redo.rules.visibility cimport visibility_redo
from walstream.redo.rules.xlog cimport xlog_redo
from walstream.wal.buffer cimport be32, be64, byte, bytes_of, fill, move, u8, u16, uint32, uint64
from walstream.wal.image cimport restore_into
from walstream.wal.record cimport RecordReader

cdef inline int append_page(bytearray replies, const byte* page) except -1:
    cdef Py_ssize_t size = PyByteArray_GET_SIZE(replies)
    PyByteArray_Resize(replies, size + 8192)
    memcpy(PyByteArray_AS_STRING(replies) + size, page, 8192)
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

    @cython.locals(at=Py_ssize_t, kind=uint32, size=Py_ssize_t)
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
