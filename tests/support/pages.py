"""A page service whose many pages are changed on their way to who reads them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

from walstream.pages.service import Block, PageService
from walstream.wal.model import RelFileLocator


def changed_pages(
    service: PageService, change: Callable[[RelFileLocator, int, Block], Block]
) -> Callable[..., Any]:
    """Returns what stands in for ``service.get_pages``: ``change`` sees each block, may raise."""
    whole = service.get_pages

    @asynccontextmanager
    async def get_pages(
        locator: RelFileLocator, fork: int, *arguments: Any, **named: Any
    ) -> AsyncIterator[AsyncGenerator[list[Block], None]]:
        async with whole(locator, fork, *arguments, **named) as batches:
            changed = ([change(locator, fork, block) for block in batch] async for batch in batches)
            async with aclosing(changed):
                yield changed

    return get_pages
