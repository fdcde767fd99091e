# instructions.py for compiled kernels: C constants.

cdef enum:
    END = 0
    # the literal of b bytes at a
    LITERAL = 1
    # a number of a bytes
    UNSIGNED = 2
    SIGNED = 3
    # two hexadecimal digits
    HEX2 = 4
    LSN = 5
    FULLXID = 6
    LOCATOR = 7
    TID = 8
    TIME = 9
    # by the bits a, one of the two literals that follow
    CHOICE = 10
    # the names of the bits that are set, of the a literals that follow; b: joined by commas
    BITS = 11
    # items of a bytes, counted by the c bytes at b
    ARRAY = 12
    # up to a NUL or the end
    TEXT = 13
    DOUBLE = 14
    # the rest only where block 0 has data
    NEEDS_DATA = 15
    # function a of Python
    CALL = 16
    # of the a + 1 literals that follow that of the value; the last is for all values from a on
    NAME = 17
    # a whole PRUNE of 17 and later
    PRUNE = 18
    # as CALL, but where xinfo has no more than the bits b, nothing but the time
    CALL_END = 19
    # a block number, the high half first
    BLOCK_NUMBER = 20

    WIDTH = 6
