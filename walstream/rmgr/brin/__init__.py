"""BRIN indexes."""
