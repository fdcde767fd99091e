"""Shows how a page changed: page_at_two_moments.py STORE RELATION BLOCK LSN LSN.

page_at_two_moments.py /srv/wal/db1 base/5/16384 0 0/3000060 0/3012345
"""

import difflib
import sys
from pathlib import Path

import trio

from walstream import BufferTag, open_pages, page_lines, parse_lsn, parse_relation


async def main(store: str, relation: str, block: int, before: str, after: str) -> None:
    locator, fork = parse_relation(relation)
    tag = BufferTag(*locator, fork, block)
    async with open_pages(Path(store)) as pages:
        history = await pages.read_history(tag, parse_lsn(before), parse_lsn(after))
        old = await pages.get_page(tag, parse_lsn(before))
        new = await pages.get_page(tag, parse_lsn(after))
    for change in history:
        print(f"{change.rmgr}/{change.op} by {change.xid}: {change.description}")
    first, second = (list(page_lines(page, fork, block)) for page in (old, new))
    print("\n".join(difflib.unified_diff(first, second, before, after, lineterm="")))


if __name__ == "__main__":
    store, relation, block, before, after = sys.argv[1:]
    trio.run(main, store, relation, int(block), before, after)
