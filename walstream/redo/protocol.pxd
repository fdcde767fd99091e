cimport cython
from walstream.redo.rules.messages cimport (
    APPLY, APPLY_LENGTH, BEGIN, BEGIN_LENGTH, GET, PING_KIND, PUSH, PUSH_LENGTH, SizeOfTag)
from walstream.wal.buffer cimport byte, move, put8, put_be32, uint32, uint64
from walstream.wal.bufpage cimport BLCKSZ
from walstream.wal.layout cimport SizeOfXLogRecord

@cython.locals(spc_oid=uint32, db_oid=uint32, rel_number=uint32, fork=uint32, block=uint32,
               end_lsn=uint64, size=Py_ssize_t, length=Py_ssize_t, at=Py_ssize_t, p="byte*",
               source="const byte*", data=bytearray, record=bytes, base_page=bytes, records=tuple)
cpdef bytes encode_request(request)

cdef inline void put_tagged(byte* p, Py_ssize_t at, uint32 kind, uint32 length, uint32 spc_oid,
                            uint32 db_oid, uint32 rel_number, uint32 fork,
                            uint32 block) noexcept nogil
