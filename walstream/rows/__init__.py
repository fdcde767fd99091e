"""Rows of any table as of any moment, read from rebuilt pages: catalogs, tuples, types, TOAST."""
