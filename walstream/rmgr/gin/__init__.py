"""GIN indexes."""
