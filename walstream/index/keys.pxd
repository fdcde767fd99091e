cimport cython
from walstream.wal.buffer cimport byte, put8, put_be32, put_be64, uint32, uint64

cdef Py_ssize_t put_block(byte* p, uint32 spc, uint32 db, uint32 rel, uint32 fork,
                          uint32 block) noexcept
cdef Py_ssize_t put_entry(byte* p, Py_ssize_t at, uint64 base, uint64 end_lsn, uint64 start_lsn,
                          uint32 flags) noexcept
cdef Py_ssize_t put_growth(byte* p, Py_ssize_t at, uint32 spc, uint32 db, uint32 rel,
                           uint32 fork, uint64 end_lsn, uint32 blocks) noexcept
cdef Py_ssize_t put_end(byte* p, Py_ssize_t at, uint32 lsn_step, uint32 length,
                        uint32 xid_step, uint64 time_step, uint32 info) noexcept
cdef Py_ssize_t put_xid(byte* p, Py_ssize_t at, uint32 low, uint32 lsn_step) noexcept
cdef Py_ssize_t put_event_key(byte* p, uint64 end_lsn) noexcept
cdef Py_ssize_t put_event(byte* p, uint64 start_lsn, uint32 rmgr, uint32 info,
                          uint32 xid) noexcept
