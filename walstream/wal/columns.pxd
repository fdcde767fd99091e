# columns.py for compiled kernels: C constants.

cdef enum:
    IMAGE_PRESENT = 0x01
    IMAGE_APPLY = 0x02
    IMAGE_HOLE = 0x04
    IMAGE_COMPRESSION_SHIFT = 4
