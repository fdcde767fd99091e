cimport cython
from walstream.rmgr.heap.effects cimport PruneParts
from walstream.rmgr.heap.layout cimport (
    SizeOfFreezePlan, xlhp_freeze_plan_ntuples, xlhp_freeze_plan_t_infomask,
    xlhp_freeze_plan_t_infomask2, xlhp_freeze_plan_xmax)
from walstream.rmgr.instructions cimport (
    ARRAY, BITS, BLOCK_NUMBER, CALL, CALL_END, CHOICE, DOUBLE, END, FULLXID, HEX2, LITERAL,
    LOCATOR, LSN, NAME, NEEDS_DATA, PRUNE, SIGNED, TEXT, TID, TIME, UNSIGNED, WIDTH)
from walstream.rmgr.text cimport Text
from walstream.wal.buffer cimport byte, bytes_of, ints_of, u8, u16, u32, u64, uint32, uint64
from walstream.wal.bufpage cimport block_at
from walstream.wal.layout cimport RM_MAX_BUILTIN_ID, RM_XACT_ID
from walstream.wal.opcodes cimport XLHP_HAS_CONFLICT_HORIZON, XLHP_IS_CATALOG_REL
from walstream.wal.record cimport RecordReader

cdef int NONE, UNMET

@cython.final
cdef class Describer:
    cdef readonly int version
    cdef bint fields
    cdef list calls
    cdef long long second
    cdef bytes second_data
    cdef bytes zone_data
    cdef PruneParts pruned
    cdef object literal_pool
    cdef object program
    cdef object starts
    cdef const int* code
    cdef const int* start
    cdef bytes pool
    cdef const byte* literals

    @cython.locals(place=Py_ssize_t)
    cdef int meet(self, int rmgr_id) except -1
    @cython.locals(reader=RecordReader, out=Text)
    cpdef bytes describe_bytes(self, object data)
    @cython.locals(rmgr=uint32, pc=Py_ssize_t, main=Py_ssize_t, end=Py_ssize_t, what=int,
                   place=Py_ssize_t, a=int, b=int, count=cython.longlong)
    cdef int describe(self, RecordReader reader, const byte* p, Py_ssize_t at, Text out) except -1
    cdef uint64 number(self, const byte* p, Py_ssize_t at, int size) noexcept nogil
    @cython.locals(value=cython.longlong)
    cdef long long integer(self, const byte* p, Py_ssize_t at, int size) noexcept nogil
    cdef bint has_data(self, RecordReader reader) noexcept nogil
    @cython.locals(some=bint, i=int)
    cdef int put_bits(self, uint32 value, Py_ssize_t pc, int count, int commas, Text out) except -1
    @cython.locals(at=Py_ssize_t, end=Py_ssize_t, flags=uint32, parts=PruneParts, i=Py_ssize_t)
    cdef int put_prune(self, RecordReader reader, const byte* p, Text out) except -1
    @cython.locals(i=Py_ssize_t, tuples=Py_ssize_t)
    cdef int put_plans(self, const byte* p, Py_ssize_t at, Py_ssize_t count, Py_ssize_t offsets_at,
                       Py_ssize_t end, Text out) except -1
    @cython.locals(i=cython.longlong)
    cdef int put_array(self, const byte* p, Py_ssize_t at, int size, long long count, Text out) except -1
    @cython.locals(seconds=cython.longlong, rest=cython.longlong)
    cdef int put_time(self, long long time_us, Text out) except -1
    cdef int put_double(self, const byte* p, Py_ssize_t at, Text out) except -1
    cdef int call(self, RecordReader reader, const byte* p, Py_ssize_t at, int index, Text out) except -1
