"""WAL files on disk: their names, their kinds, and the bytes in them."""
