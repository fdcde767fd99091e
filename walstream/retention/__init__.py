"""What of a store stays and what goes: a pure plan, and the files that it moves and removes.

``plan`` decides from values (``contents``), ``survey`` and ``places`` read those from a store,
``tombstones`` takes away.
"""
