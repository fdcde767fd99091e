"""B-tree indexes."""
