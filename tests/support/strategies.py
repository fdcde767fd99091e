"""Hypothesis strategies: records of every shape, WAL made of them, and ways to cut it."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support.walgen import Block, WalWriter, record_body
from walstream.wal.model import BLCKSZ, BufferTag, PageImage
from walstream.wal.versions import VERSIONS

versions = st.sampled_from(VERSIONS)
segment_sizes = st.sampled_from([1 << 20, 2 << 20, 16 << 20, 64 << 20, 1 << 30])
u32 = st.integers(0, 0xFFFFFFFF)


@st.composite
def buffer_tags(draw: st.DrawFn) -> BufferTag:
    return BufferTag(draw(u32), draw(u32), draw(u32), draw(st.integers(0, 3)), draw(u32))


@st.composite
def images(draw: st.DrawFn, version: int) -> PageImage:
    """Images whose header is right; the bytes of compressed ones do not decompress."""
    compression = draw(st.integers(0, 1 if version == 14 else 3))
    apply = draw(st.booleans())
    hole = draw(st.booleans())
    offset = draw(st.integers(24, 4000)) if hole else 0
    length = draw(st.integers(1, 4000)) if hole else 0
    size = BLCKSZ - length if compression == 0 else draw(st.integers(1, 600))
    return PageImage(bytes((size & 0xFF,)) * size, offset, length, compression, apply)


@st.composite
def block_lists(draw: st.DrawFn, version: int) -> list[Block]:
    ids = sorted(draw(st.sets(st.integers(0, 32), max_size=5)))
    blocks: list[Block] = []
    for block_id in ids:
        tag = draw(buffer_tags())
        same_rel = bool(blocks) and draw(st.booleans())
        if same_rel:
            tag = BufferTag(*blocks[-1].tag[:3], tag.fork, tag.block)
        image = draw(images(version)) if draw(st.integers(0, 3)) == 0 else None
        data = draw(st.binary(max_size=40))
        blocks.append(Block(block_id, tag, data, image, draw(st.booleans()), same_rel))
    return blocks


@st.composite
def bodies(draw: st.DrawFn, version: int) -> bytes:
    main_data = draw(st.binary(max_size=60)) * draw(st.sampled_from([0, 1, 1, 1, 9, 400]))
    return record_body(
        version,
        draw(block_lists(version)),
        main_data,
        origin=draw(st.none() | st.integers(0, 0xFFFF)),
        toplevel_xid=draw(st.none() | u32),
    )


@st.composite
def written_wal(draw: st.DrawFn, max_steps: int = 14) -> WalWriter:
    """WAL of random records, switches and given-up records, of any version and segment size.

    It starts at a random page, not always that of a segment's start.
    """
    version = draw(versions)
    segment_size = draw(segment_sizes)
    pages = draw(st.integers(0, 3)) if draw(st.booleans()) else segment_size // 8192 - 2
    wal = WalWriter(version, segment_size, 5 * segment_size + pages * 8192)
    for _ in range(draw(st.integers(0, max_steps))):
        kind = draw(st.integers(0, 11))
        if kind <= 6:
            custom = [128, 255] if version > 14 else []
            rmgr = draw(st.sampled_from([0, 1, 9, 10, 11, 21, *custom]))
            info = draw(st.sampled_from([0x00, 0x10, 0x50, 0x80, 0xA0, 0xB1]))
            wal.add(rmgr, info, draw(u32), draw(bodies(version)))
        elif kind <= 8:
            # So that a record ends with its page, or only its head fits.
            wal.fill_page(draw(st.sampled_from([0, 8, 16, 24, 32])))
        elif kind == 9:
            wal.add_of_length(draw(st.sampled_from([8000, 8168, 8192, 20000])))
        elif kind == 10 and segment_size <= 2 << 20:
            wal.switch()
        else:
            wal.fill_page(draw(st.sampled_from([8, 16, 24, 64])))
            wal.abort_record(9000 + 8192, draw(st.sampled_from([0, 24, 64, 5000])))
    return wal


@st.composite
def cuts(draw: st.DrawFn, length: int) -> list[int]:
    """Where to cut ``length`` bytes: ascending offsets, often next to each other."""
    some = draw(st.lists(st.integers(0, length), max_size=30))
    near = {at + step for at in some for step in range(draw(st.integers(1, 30)))}
    return sorted(at for at in near if at <= length)
