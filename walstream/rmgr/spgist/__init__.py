"""SP-GiST indexes."""
