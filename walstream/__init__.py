"""walstream: PostgreSQL's physical WAL, streamed, kept, decoded, indexed and replayed."""

__version__ = "0.1.0"
