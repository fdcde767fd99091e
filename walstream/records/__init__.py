"""WAL as Python objects, one record after another: of what is stored, and of a live server."""
