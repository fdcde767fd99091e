"""Hash indexes."""
