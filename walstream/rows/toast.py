"""Values that are kept in TOAST relations (detoast.c, toast_internals.c), as of the moment.

Which relation holds a value is what its pointer says; where the file of that relation is, pg_class
of the moment. Chunks are found through the index.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from walstream.errors import RowDamaged
from walstream.rows.btree import BtreeSearch, Tid
from walstream.rows.catalog import Catalog
from walstream.rows.heap import AttributeLayout, TupleLayout, deform, heap_tuple_at
from walstream.rows.varlena import ToastPointer, decompress_datum, payload
from walstream.wal.model import RelFileLocator

_U32, _I32 = Struct("<I"), Struct("<i")

# chunk_id, chunk_seq, chunk_data.
INDEX_LAYOUT = (AttributeLayout(4, 4), AttributeLayout(4, 4))
CHUNK_LAYOUT = TupleLayout((*INDEX_LAYOUT, AttributeLayout(-1, 4)))


class ToastReader:
    """Gets values out of the TOAST relations of one catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._relations: dict[int, tuple[RelFileLocator, BtreeSearch]] = {}

    def _find(self, toast_oid: int) -> tuple[RelFileLocator, BtreeSearch]:
        known = self._relations.get(toast_oid)
        if known is not None:
            return known
        catalog = self._catalog
        relation = catalog.relations.get(toast_oid)
        locator = None if relation is None else catalog.locator(relation)
        for index in catalog.indexes.get(toast_oid, []):
            place = catalog.relations.get(index.oid)
            index_locator = None if place is None else catalog.locator(place)
            if locator is not None and index_locator is not None and index.valid:
                search = BtreeSearch(catalog.pages, index_locator, INDEX_LAYOUT)
                known = self._relations[toast_oid] = (locator, search)
                return known
        raise RowDamaged(f"a value is kept in TOAST relation {toast_oid}, which does not exist")

    async def fetch(self, pointer: ToastPointer) -> bytes:
        """Returns the payload of a value.

        Raises:
            RowDamaged: chunks are missing or are not what the pointer says.
            WalstreamError: a page cannot be rebuilt.

        Cancellation: nothing is left behind.
        """
        locator, search = self._find(pointer.toast_oid)
        wanted = pointer.value_oid

        def compare(keys: Sequence[bytes | None]) -> int:
            if not keys or keys[0] is None:
                return -1
            found = int(_U32.unpack(keys[0])[0])
            return (found > wanted) - (found < wanted)

        chunks: dict[int, bytes] = {}
        for tid in await search.find(compare):
            await self._chunk(locator, tid, wanted, chunks)
        data = b"".join([chunks[number] for number in sorted(chunks)])
        if sorted(chunks) != list(range(len(chunks))) or len(data) != pointer.external_size:
            raise RowDamaged(
                f"TOAST value {wanted} of relation {pointer.toast_oid}: expected "
                f"{pointer.external_size} bytes, got {len(data)} in {len(chunks)} chunks"
            )
        if not pointer.compressed:
            return data
        raw = decompress_datum(data)
        if len(raw) != pointer.raw_size - 4:
            raise RowDamaged(
                f"TOAST value {wanted}: expected {pointer.raw_size - 4} bytes, got {len(raw)}"
            )
        return raw

    async def _chunk(
        self, locator: RelFileLocator, tid: Tid, wanted: int, chunks: dict[int, bytes]
    ) -> None:
        block, offset = tid
        row = heap_tuple_at(await self._catalog.pages.page(locator, block), offset)
        # HeapTupleSatisfiesToast: the row that has the pointer decides, not the chunk's xmax.
        if row is None or not self._catalog.visibility.inserted(row.xmin, row.infomask):
            return
        values = deform(row.data, CHUNK_LAYOUT)
        if len(values) != len(CHUNK_LAYOUT.attributes) or None in values:
            raise RowDamaged(f"chunk ({block},{offset}) of {locator} has NULLs")
        chunk_id, sequence, data = values
        assert chunk_id is not None and sequence is not None and data is not None
        if _U32.unpack(chunk_id)[0] == wanted:
            chunks[_I32.unpack(sequence)[0]] = payload(data)
