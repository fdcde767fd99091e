# messages.py for compiled kernels: C constants.

cdef enum:
    # B: BeginRedoForBlock, P: PushPage, A: ApplyRecord, G: GetPage, H: ping
    BEGIN = 0x42
    PUSH = 0x50
    APPLY = 0x41
    GET = 0x47
    PING_KIND = 0x48

    # The type byte and the length; a tag; a page; what an ApplyRecord has before its record.
    SizeOfHead = 5
    SizeOfTag = 17
    SizeOfEndLsn = 8
    BEGIN_LENGTH = 21
    PUSH_LENGTH = 8213
    APPLY_LENGTH = 12
    PING_LENGTH = 4

    # Replies wait for their reader from this many bytes on.
    ENOUGH_REPLIES = 524288
