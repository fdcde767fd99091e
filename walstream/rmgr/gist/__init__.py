"""GiST indexes."""
