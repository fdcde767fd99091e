"""What the kernel knows of an opening's files: a node for each that it has looked up."""

from __future__ import annotations

import trio

from walstream.mount.lower import LowerFile
from walstream.mount.own_pages import OwnPages


class Node:
    """A file or directory that the kernel knows.

    ``file`` is set for what is made of the moment; ``fd`` while another file is open. ``written``:
    pages of ``file`` were written before the kernel knew of it.
    """

    __slots__ = (
        "children",
        "fd",
        "file",
        "inode",
        "lock",
        "lookups",
        "name",
        "opens",
        "own",
        "parent",
        "reads",
        "written",
    )

    def __init__(self, inode: int, name: str, parent: Node | None) -> None:
        self.inode = inode
        self.name = name
        self.parent: Node | None = parent
        self.children: dict[str, Node] = {}
        self.lookups = 0
        self.reads = 0
        self.opens = 0
        self.fd: int | None = None
        self.file: LowerFile | None = None
        self.own: OwnPages | None = None
        self.written = False
        self.lock = trio.Lock()

    @property
    def path(self) -> str:
        """The path below the mount's root, "" for the root itself."""
        parts: list[str] = []
        node: Node | None = self
        while node is not None and node.parent is not None:
            parts.append(node.name)
            node = node.parent
        return "/".join(reversed(parts))


def below(parent: Node, name: str) -> str:
    """Returns the path of a name in a directory."""
    directory = parent.path
    return f"{directory}/{name}" if directory else name
