"""Rebuild one page of a store at one LSN and print what stands on it.

python examples/page_at_lsn.py STORE base/5/16384 0 0/3000060
"""

import sys
from pathlib import Path

import trio

from walstream import BufferTag, open_pages, parse_lsn, parse_relation
from walstream.pages.text import page_lines


async def main(store: str, relation: str, block: str, lsn: str) -> None:
    locator, fork = parse_relation(relation)
    tag = BufferTag(*locator, fork, int(block))
    async with open_pages(Path(store)) as pages:
        for change in await pages.read_history(tag, to_lsn=parse_lsn(lsn)):
            print(f"{change.rmgr}/{change.op} by {change.xid}: {change.description}")
        for line in page_lines(await pages.get_page(tag, parse_lsn(lsn)), fork, tag.block):
            print(line)


if __name__ == "__main__":
    store, relation, block, lsn = sys.argv[1:]
    trio.run(main, store, relation, block, lsn)
