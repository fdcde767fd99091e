"""How hash index records change one page (hash_xlog.c).

Versions: VACUUM_ONE_PAGE counts in an int up to 15, in a u16 before isCatalogRel since 16, at the
same place; since 17 SQUEEZE_PAGE may list a write page that it does not change. Pages that a
record lists only so that the primary bucket is locked stay as they are, LSN included.

Pages are in ``layout.py``.
"""

from __future__ import annotations

import cython

from walstream.errors import RedoError, UnsupportedRecord

if not cython.compiled:
    from walstream.redo.rules.index_tuple import aligned_length
    from walstream.redo.rules.page import add_item, expect_special, index_multi_delete, page_init
    from walstream.redo.rules.target import Target
    from walstream.rmgr.hash.layout import (
        HASH_BMSHIFT,
        HASH_BMSIZE,
        HASH_BSIZE,
        HASH_MAGIC,
        HASH_MAX_BITMAPS,
        HASH_MAX_SPLITPOINTS,
        HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE,
        HASH_SPLITPOINT_PHASES_PER_GRP,
        HASH_VERSION,
        HASHO_PAGE_ID,
        LH_BITMAP_PAGE,
        LH_BUCKET_NEEDS_SPLIT_CLEANUP,
        LH_META_PAGE,
        LH_OVERFLOW_PAGE,
        LH_PAGE_HAS_DEAD_TUPLES,
        LH_UNUSED_PAGE,
        XLH_SPLIT_META_UPDATE_MASKS,
        XLH_SPLIT_META_UPDATE_SPLITPOINT,
        EndOfHashMetaPage,
        SizeOfHashPageOpaque,
        hashm_bmshift,
        hashm_bmsize,
        hashm_bsize,
        hashm_ffactor,
        hashm_firstfree,
        hashm_highmask,
        hashm_lowmask,
        hashm_magic,
        hashm_mapp,
        hashm_maxbucket,
        hashm_nmaps,
        hashm_ntuples,
        hashm_ovflpoint,
        hashm_procid,
        hashm_spares,
        hashm_version,
        hasho_bucket,
        hasho_flag,
        hasho_nextblkno,
        hasho_page_id,
        hasho_prevblkno,
    )
    from walstream.wal.buffer import f64, fill, put8, put16, put32, put_f64, u8, u16, u32
    from walstream.wal.bufpage import (
        PG_UINT32_MAX,
        InvalidBlockNumber,
        SizeOfPageHeaderData,
        set_pd_lower,
    )
    from walstream.wal.opcodes import (
        XLOG_HASH_ADD_OVFL_PAGE,
        XLOG_HASH_DELETE,
        XLOG_HASH_INIT_BITMAP_PAGE,
        XLOG_HASH_INIT_META_PAGE,
        XLOG_HASH_INSERT,
        XLOG_HASH_MOVE_PAGE_CONTENTS,
        XLOG_HASH_SPLIT_ALLOCATE_PAGE,
        XLOG_HASH_SPLIT_CLEANUP,
        XLOG_HASH_SPLIT_COMPLETE,
        XLOG_HASH_SPLIT_PAGE,
        XLOG_HASH_SQUEEZE_PAGE,
        XLOG_HASH_UPDATE_META_PAGE,
        XLOG_HASH_VACUUM_ONE_PAGE,
    )


def hash_redo(t: Target) -> int:
    """Applies one hash record to ``t.page``; returns whether the page gets the record's end LSN.

    Raises:
        RedoError: the record or the page is not what the operation needs.
        UnsupportedRecord: there is no such operation.
    """
    op = t.op
    if op == XLOG_HASH_INSERT:
        return insert(t)
    if op == XLOG_HASH_INIT_META_PAGE:
        return init_meta(t)
    if op == XLOG_HASH_INIT_BITMAP_PAGE:
        return init_bitmap(t)
    if op == XLOG_HASH_ADD_OVFL_PAGE:
        return add_overflow(t)
    if op == XLOG_HASH_SPLIT_ALLOCATE_PAGE:
        return split_allocate(t)
    if op == XLOG_HASH_SPLIT_PAGE:
        raise RedoError("split record has no page image to restore")
    if op == XLOG_HASH_SPLIT_COMPLETE:
        return split_complete(t)
    if op == XLOG_HASH_MOVE_PAGE_CONTENTS:
        return move_contents(t)
    if op == XLOG_HASH_SQUEEZE_PAGE:
        return squeeze(t)
    if op == XLOG_HASH_DELETE:
        return delete(t)
    if op == XLOG_HASH_SPLIT_CLEANUP:
        return split_cleanup(t)
    if op == XLOG_HASH_UPDATE_META_PAGE:
        return update_meta(t)
    if op == XLOG_HASH_VACUUM_ONE_PAGE:
        return vacuum_one_page(t)
    raise UnsupportedRecord(f"unknown operation {op:#04x}")


def init_page(t: Target, previous: int, bucket: int, flags: int) -> int:
    """Makes an empty page with that special area (_hash_initbuf)."""
    page_init(t.page, SizeOfHashPageOpaque)
    put32(t.page, hasho_prevblkno, previous)
    put32(t.page, hasho_nextblkno, InvalidBlockNumber)
    put32(t.page, hasho_bucket, bucket)
    put16(t.page, hasho_flag, flags)
    put16(t.page, hasho_page_id, HASHO_PAGE_ID)
    return 0


def init_bitmap_page(t: Target, size: int) -> int:
    """Makes a bitmap page whose bits are all set (_hash_initbitmapbuffer)."""
    if size > HASH_BSIZE:
        raise RedoError(f"bitmap of {size} bytes, at most {HASH_BSIZE} fit")
    init_page(t, InvalidBlockNumber, InvalidBlockNumber, LH_BITMAP_PAGE)
    fill(t.page, SizeOfPageHeaderData, size, 0xFF)
    set_pd_lower(t.page, SizeOfPageHeaderData + size)
    return 1


def ceil_log2(value: int) -> int:
    """Returns the smallest n with 2 ** n >= value (pg_ceil_log2_32), for values up to 2 ** 31."""
    one = 1
    n = 0
    while (one << n) < value:
        n += 1
    return n


def spare_index(buckets: int) -> int:
    """Returns the splitpoint phase that holds that many buckets (_hash_spareindex)."""
    group = ceil_log2(buckets)
    if group < HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE:
        return group
    return (
        HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE
        + (group - HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE) * HASH_SPLITPOINT_PHASES_PER_GRP
        + (((buckets - 1) >> (group - 3)) & (HASH_SPLITPOINT_PHASES_PER_GRP - 1))
    )


def total_buckets(phase: int) -> int:
    """Returns how many buckets exist once a splitpoint phase is allocated."""
    # _hash_get_totalbuckets
    one = 1
    if phase < HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE:
        return one << phase
    phase -= HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE
    half = one << (9 + phase // HASH_SPLITPOINT_PHASES_PER_GRP)
    return half + half // HASH_SPLITPOINT_PHASES_PER_GRP * (
        phase % HASH_SPLITPOINT_PHASES_PER_GRP + 1
    )


def init_meta(t: Target) -> int:
    # hash_xlog_init_meta_page
    # xl_hash_init_meta_page: num_tuples f64, procid u32, ffactor u16. _hash_init_metabuffer.
    one = 1
    t.need_main(14)
    if t.block_id != 0:
        return t.no_block()
    tuples = f64(t.p, t.main_at)
    fill_factor = u16(t.p, t.main_at + 12)
    if fill_factor == 0 or tuples != tuples:
        raise RedoError(f"{tuples} tuples, {fill_factor} a bucket")
    wanted = tuples / fill_factor
    if wanted <= 2.0:
        buckets = 2
    elif wanted >= 1073741824.0:
        buckets = 0x40000000
    else:
        buckets = total_buckets(spare_index(int(wanted)))
    phase = spare_index(buckets)
    # The smallest 2 ** n - 1 that covers the bucket numbers.
    high_mask = (one << ceil_log2(buckets + 1)) - 1

    init_page(t, InvalidBlockNumber, InvalidBlockNumber, LH_META_PAGE)
    put32(t.page, hashm_magic, HASH_MAGIC)
    put32(t.page, hashm_version, HASH_VERSION)
    put16(t.page, hashm_ffactor, fill_factor)
    put16(t.page, hashm_bsize, HASH_BSIZE)
    put16(t.page, hashm_bmsize, HASH_BMSIZE)
    put16(t.page, hashm_bmshift, HASH_BMSHIFT)
    put32(t.page, hashm_maxbucket, buckets - 1)
    put32(t.page, hashm_highmask, high_mask)
    put32(t.page, hashm_lowmask, high_mask >> 1)
    put32(t.page, hashm_ovflpoint, phase)
    put32(t.page, hashm_procid, u32(t.p, t.main_at + 8))
    put32(t.page, hashm_spares + phase * 4, 1)
    set_pd_lower(t.page, EndOfHashMetaPage)
    return 1


def add_bitmap_block(t: Target, block: int) -> int:
    """Appends a bitmap page to the list in the metapage (hashm_mapp, hashm_nmaps)."""
    maps = u32(t.page, hashm_nmaps)
    if maps >= HASH_MAX_BITMAPS:
        raise RedoError(f"hash metapage: hashm_nmaps is {maps}, expected below {HASH_MAX_BITMAPS}")
    put32(t.page, hashm_mapp + maps * 4, block)
    put32(t.page, hashm_nmaps, maps + 1)
    return 0


def init_bitmap(t: Target) -> int:
    # hash_xlog_init_bitmap_page
    # xl_hash_init_bitmap_page: bmsize u16. Blocks: 0 bitmap page, 1 metapage.
    t.need_main(2)
    if t.block_id == 0:
        return init_bitmap_page(t, u16(t.p, t.main_at))
    if t.block_id == 1:
        expect_special(t.page, SizeOfHashPageOpaque)
        # The first bitmap page follows the buckets 0 .. hashm_maxbucket, which start at block 1.
        add_bitmap_block(t, (u32(t.page, hashm_maxbucket) + 2) & PG_UINT32_MAX)
        return 1
    return t.no_block()


def insert(t: Target) -> int:
    # hash_xlog_insert
    # xl_hash_insert: offnum u16. Blocks: 0 page with the tuple as data, 1 metapage.
    t.need_main(2)
    expect_special(t.page, SizeOfHashPageOpaque)
    if t.block_id == 0:
        t.need_data(1)
        add_item(t.page, t.p, t.data_at, t.data_length, u16(t.p, t.main_at), 0)
        return 1
    if t.block_id == 1:
        put_f64(t.page, hashm_ntuples, f64(t.page, hashm_ntuples) + 1.0)
        return 1
    return t.no_block()


def bitmap_bit(t: Target) -> int:
    """Returns the number of the bit that the block data names, checked against the page."""
    t.need_data(4)
    bit = u32(t.p, t.data_at)
    if bit >= 8 * HASH_BSIZE:
        raise RedoError(f"bitmap bit {bit}, a page has {8 * HASH_BSIZE}")
    return bit


def add_overflow(t: Target) -> int:
    # hash_xlog_add_ovfl_page
    # xl_hash_add_ovfl_page: bmsize u16, bmpage_found u8. Blocks: 0 the new page, 1 the page before
    # it in the chain, 2 bitmap page, 3 new bitmap page, 4 metapage.
    t.need_main(3)
    if t.block_id == 0:
        t.need_data(4)
        init_page(t, t.need_block(1), u32(t.p, t.data_at), LH_OVERFLOW_PAGE)
        return 1
    if t.block_id == 3:
        return init_bitmap_page(t, u16(t.p, t.main_at))
    expect_special(t.page, SizeOfHashPageOpaque)
    if t.block_id == 1:
        put32(t.page, hasho_nextblkno, t.need_block(0))
        return 1
    if t.block_id == 2:
        bit = bitmap_bit(t)
        at = SizeOfPageHeaderData + bit // 8
        put8(t.page, at, u8(t.page, at) | 1 << (bit & 7))
        return 1
    if t.block_id == 4:
        t.need_data(4)
        put32(t.page, hashm_firstfree, u32(t.p, t.data_at))
        if u8(t.p, t.main_at + 2) == 0:
            point = u32(t.page, hashm_ovflpoint)
            if point >= HASH_MAX_SPLITPOINTS:
                raise RedoError(
                    f"hash metapage: hashm_ovflpoint is {point}, "
                    f"expected below {HASH_MAX_SPLITPOINTS}"
                )
            at = hashm_spares + point * 4
            if t.block_number(3) >= 0:
                add_bitmap_block(t, t.need_block(3))
                put32(t.page, at, (u32(t.page, at) + 2) & PG_UINT32_MAX)
            else:
                put32(t.page, at, (u32(t.page, at) + 1) & PG_UINT32_MAX)
        return 1
    return t.no_block()


def split_allocate(t: Target) -> int:
    # hash_xlog_split_allocate_page
    # xl_hash_split_allocate_page: new_bucket u32, old_bucket_flag u16, new_bucket_flag u16,
    # flags u8. Blocks: 0 old bucket, 1 new bucket, 2 metapage.
    t.need_main(9)
    bucket = u32(t.p, t.main_at)
    if t.block_id == 1:
        init_page(t, bucket, bucket, u16(t.p, t.main_at + 6))
        return 1
    expect_special(t.page, SizeOfHashPageOpaque)
    if t.block_id == 0:
        put16(t.page, hasho_flag, u16(t.p, t.main_at + 4))
        put32(t.page, hasho_prevblkno, bucket)
        return 1
    if t.block_id == 2:
        put32(t.page, hashm_maxbucket, bucket)
        at = t.data_at
        flags = u8(t.p, t.main_at + 8)
        if flags & XLH_SPLIT_META_UPDATE_MASKS:
            t.need_data(8)
            put32(t.page, hashm_lowmask, u32(t.p, at))
            put32(t.page, hashm_highmask, u32(t.p, at + 4))
            at += 8
        if flags & XLH_SPLIT_META_UPDATE_SPLITPOINT:
            t.need_data(at - t.data_at + 8)
            point = u32(t.p, at)
            if point >= HASH_MAX_SPLITPOINTS:
                raise RedoError(f"splitpoint {point}, expected below {HASH_MAX_SPLITPOINTS}")
            put32(t.page, hashm_spares + point * 4, u32(t.p, at + 4))
            put32(t.page, hashm_ovflpoint, point)
        return 1
    return t.no_block()


def split_complete(t: Target) -> int:
    # hash_xlog_split_complete
    # xl_hash_split_complete: old_bucket_flag u16, new_bucket_flag u16. Blocks: 0 old, 1 new bucket.
    t.need_main(4)
    if t.block_id > 1:
        return t.no_block()
    expect_special(t.page, SizeOfHashPageOpaque)
    put16(t.page, hasho_flag, u16(t.p, t.main_at + t.block_id * 2))
    return 1


def add_tuples(t: Target, count: int) -> int:
    """Adds the tuples of the block data: their offset numbers, then the tuples, 8-aligned."""
    at = t.data_at + count * 2
    end = t.data_at + t.data_length
    if at > end:
        raise RedoError(f"{count} offsets in {t.data_length} bytes")
    for i in range(count):
        size = aligned_length(t.p, at, end - at)
        add_item(t.page, t.p, at, size, u16(t.p, t.data_at + i * 2), 0)
        at += size
    if at != end:
        raise RedoError(f"{end - at} bytes after {count} tuples")
    return 0


def delete_items(t: Target, at: int, length: int) -> int:
    """Deletes the items whose offset numbers are in ``length`` bytes at ``at`` of the record."""
    if length >= 2:
        index_multi_delete(t.page, t.p, at, length // 2)
    return 0


def move_contents(t: Target) -> int:
    # hash_xlog_move_page_contents
    # xl_hash_move_page_contents: ntups u16, is_prim_bucket_same_wrt u8. Blocks: 0 primary bucket
    # (only locked), 1 page that gets the tuples, 2 page that loses them.
    t.need_main(3)
    if t.block_id == 0:
        return 0
    expect_special(t.page, SizeOfHashPageOpaque)
    if t.block_id == 1:
        if u16(t.p, t.main_at) > 0:
            add_tuples(t, u16(t.p, t.main_at))
        return 1
    if t.block_id == 2:
        delete_items(t, t.data_at, t.data_length)
        return 1
    return t.no_block()


def squeeze(t: Target) -> int:
    # hash_xlog_squeeze_page
    # xl_hash_squeeze_page: prevblkno u32, nextblkno u32, ntups u16, is_prim_bucket_same_wrt u8,
    # is_prev_bucket_same_wrt u8. Blocks: 0 primary bucket (only locked), 1 page that gets the
    # tuples, 2 the freed page, 3 the page before it, 4 the page after it, 5 bitmap, 6 metapage.
    t.need_main(12)
    if t.block_id == 0:
        return 0
    expect_special(t.page, SizeOfHashPageOpaque)
    if t.block_id == 1:
        count = u16(t.p, t.main_at + 8)
        same = u8(t.p, t.main_at + 11) != 0
        if count > 0:
            add_tuples(t, count)
        if same:
            put32(t.page, hasho_nextblkno, u32(t.p, t.main_at + 4))
        # Since 17 a page that gets no tuple and no link is only registered (a6262f2c678).
        return 1 if count > 0 or same or t.version < 17 else 0
    if t.block_id == 2:
        init_page(t, InvalidBlockNumber, InvalidBlockNumber, LH_UNUSED_PAGE)
        return 1
    if t.block_id == 3:
        # With is_prev_bucket_same_wrt PostgreSQL does not look at block 3, and does not write it.
        if u8(t.p, t.main_at + 11) != 0:
            return t.no_block()
        put32(t.page, hasho_nextblkno, u32(t.p, t.main_at + 4))
        return 1
    if t.block_id == 4:
        put32(t.page, hasho_prevblkno, u32(t.p, t.main_at))
        return 1
    if t.block_id == 5:
        bit = bitmap_bit(t)
        at = SizeOfPageHeaderData + bit // 8
        put8(t.page, at, u8(t.page, at) & (0xFF ^ 1 << (bit & 7)))
        return 1
    if t.block_id == 6:
        t.need_data(4)
        put32(t.page, hashm_firstfree, u32(t.p, t.data_at))
        return 1
    return t.no_block()


def delete(t: Target) -> int:
    # hash_xlog_delete
    # xl_hash_delete: clear_dead_marking u8, is_primary_bucket_page u8. Blocks: 0 primary bucket
    # (only locked), 1 page.
    t.need_main(2)
    if t.block_id == 0:
        return 0
    if t.block_id != 1:
        return t.no_block()
    expect_special(t.page, SizeOfHashPageOpaque)
    delete_items(t, t.data_at, t.data_length)
    if u8(t.p, t.main_at) != 0:
        put16(t.page, hasho_flag, u16(t.page, hasho_flag) & ~LH_PAGE_HAS_DEAD_TUPLES)
    return 1


def split_cleanup(t: Target) -> int:
    # hash_xlog_split_cleanup
    if t.block_id != 0:
        return t.no_block()
    expect_special(t.page, SizeOfHashPageOpaque)
    put16(t.page, hasho_flag, u16(t.page, hasho_flag) & ~LH_BUCKET_NEEDS_SPLIT_CLEANUP)
    return 1


def update_meta(t: Target) -> int:
    # hash_xlog_update_meta_page
    # xl_hash_update_meta_page: ntuples f64.
    t.need_main(8)
    if t.block_id != 0:
        return t.no_block()
    expect_special(t.page, SizeOfHashPageOpaque)
    put32(t.page, hashm_ntuples, u32(t.p, t.main_at))
    put32(t.page, hashm_ntuples + 4, u32(t.p, t.main_at + 4))
    return 1


def vacuum_one_page(t: Target) -> int:
    # hash_xlog_vacuum_one_page
    # xl_hash_vacuum_one_page: conflict xid u32, ntuples (i32 up to 15; u16 and isCatalogRel u8
    # since 16), offsets from byte 8 on. Blocks: 0 page, 1 metapage.
    t.need_main(8)
    count = u16(t.p, t.main_at + 4) if t.version >= 16 else u32(t.p, t.main_at + 4)
    if count * 2 > t.main_length - 8:
        raise RedoError(f"{count} offsets in {t.main_length - 8} bytes")
    expect_special(t.page, SizeOfHashPageOpaque)
    if t.block_id == 0:
        delete_items(t, t.main_at + 8, count * 2)
        put16(t.page, hasho_flag, u16(t.page, hasho_flag) & ~LH_PAGE_HAS_DEAD_TUPLES)
        return 1
    if t.block_id == 1:
        put_f64(t.page, hashm_ntuples, f64(t.page, hashm_ntuples) - count)
        return 1
    return t.no_block()
