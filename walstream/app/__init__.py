"""Builds the objects of a store and runs them together: the nursery trees, and nothing else.

One file for each thing that is built: ``prepare`` (a store, the first time), ``run`` (what streams
into it), ``reindex``, ``open`` (a store for reading: its pages, its moments, its tables).
"""
