"""Generic WAL: bytes that changed in a page."""
